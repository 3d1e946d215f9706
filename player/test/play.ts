/** What a page gets of a file: every frame in order, or at some positions. */

import { crc32 } from "../src/container/crc";
import { InvError } from "../src/errors";
import { type Frame, Video } from "../src/index";

/** CRC of all weights of a frame, tensor by tensor. */
function weightsOf(frame: Frame): number[] {
  return frame.networks.flatMap(({ tensors }) => {
    return [...tensors.values()].map((values) => crc32(new Uint8Array(values.buffer)));
  });
}

/** Once the last frame is listed. */
export function ended(video: Video): Promise<void> {
  return new Promise((resolve, reject) => {
    const check = () => {
      if (video.error) reject(video.error);
      else if (video.ending) resolve();
    };
    for (const event of ["end", "error"]) video.addEventListener(event, check);
    check();
  });
}

export async function play(from: string | Blob, positions?: number[]): Promise<unknown> {
  try {
    const video = await Video.open(from);
    await ended(video);
    const frames: unknown[] = [];
    for (const position of positions ?? video.entries.keys()) {
      try {
        const frame = await video.frame(position);
        frames.push([frame.number, weightsOf(frame)]);
      } catch (error) {
        if (!(error instanceof InvError)) throw error;
        frames.push([video.entries[position]!.number, error.kind]);
      }
    }
    const { status } = video.ending!;
    const { traffic } = video;
    video.close();
    return { refused: null, status, frames, traffic };
  } catch (error) {
    if (!(error instanceof InvError)) throw error;
    return { refused: error.kind, message: error.message };
  }
}
