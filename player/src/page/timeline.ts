/** The timeline under a picture: what was played, what is here, and where keyframes are. */

import type { Video } from "../playback/video";

/** Parts of the timeline that show the size of the largest record in them, and the least height of those. */
const PARTS = 256;
const LEAST = 0.15;
/** Keyframes closer than this, in pixels, are not drawn. */
const APART = 6;

/** `sizes`: behind it, how large records are, on a logarithmic scale. */
export function drawTimeline(canvas: HTMLCanvasElement, video: Video, time: number, sizes: boolean): void {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d")!;
  pen.scale(ratio, ratio);
  const colours = getComputedStyle(canvas);
  const { entries } = video;
  const begin = entries[0]?.time ?? 0;
  const length = Math.max(video.duration - begin, 1e-9);
  const x = (at: number): number => Math.min(Math.max((at - begin) / length, 0), 1) * width;
  const bar = (from: number, to: number, name: string): void => {
    pen.fillStyle = colours.getPropertyValue(name);
    pen.beginPath();
    pen.roundRect(from, height / 2 - 2, Math.max(to - from, 0), 4, 2);
    pen.fill();
  };
  if (sizes && entries.length) {
    const most = new Float64Array(Math.min(PARTS, Math.floor(width / 3), entries.length));
    for (const { time: at, size } of entries) {
      const part = Math.min(Math.floor((x(at) / width) * most.length), most.length - 1);
      most[part] = Math.max(most[part]!, size);
    }
    const large = Math.log(Math.max(...most));
    const small = Math.log(Math.min(...most.filter(Boolean)));
    pen.fillStyle = colours.getPropertyValue("--loaded");
    most.forEach((size, part) => {
      const share = size && LEAST + ((1 - LEAST) * (Math.log(size) - small)) / (large - small || 1);
      pen.fillRect((part * width) / most.length, (1 - share) * height, width / most.length - 1, share * height);
    });
  }
  bar(0, width, "--track");
  const endOf = (position: number): number => entries[position]?.time ?? video.duration;
  for (const [from, to] of video.buffered) bar(x(endOf(from)), x(endOf(to)), "--loaded");
  bar(0, x(time), "--hot");
  const keys = entries.filter(({ isKey }) => isKey).map((entry) => x(entry.time));
  if (keys.length > 1 && width / keys.length >= APART) {
    pen.fillStyle = colours.getPropertyValue("--dim");
    for (const at of keys.slice(1)) pen.fillRect(at - 0.5, height / 2 + 4, 1, 4);
  }
  pen.fillStyle = colours.getPropertyValue("--hot");
  pen.beginPath();
  pen.arc(Math.min(Math.max(x(time), 6), width - 6), height / 2, 6, 0, 2 * Math.PI);
  pen.fill();
}
