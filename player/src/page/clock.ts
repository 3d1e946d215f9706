/** Which time of a video is to be seen at each moment. */

export const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2];

export class Clock {
  /** In seconds of the video. */
  time = 0;
  playing = false;
  speed = 1;
  loop = false;
  private before: number | null = null;

  /**
   * Go on.
   *
   * @param now in milliseconds
   * @param start time of the first frame; `end` of the last frame's end
   * @param waits whether what is to be seen is not there yet: then time stands still
   * @param open whether more frames may come: then the end is waited at
   */
  advance(
    now: number,
    { start, end, waits, open }: { start: number; end: number; waits: boolean; open: boolean },
  ): void {
    const passed = this.before === null ? 0 : (now - this.before) / 1000;
    this.before = this.playing ? now : null;
    if (!this.playing || waits) return;
    const time = this.time + passed * this.speed;
    if (time < end) this.time = time;
    else if (open) this.time = Math.max(this.time, end - 1e-3);
    else if (this.loop) this.time = start + ((time - end) % Math.max(end - start, 1e-3));
    else {
      this.time = end;
      this.playing = false;
    }
  }
}
