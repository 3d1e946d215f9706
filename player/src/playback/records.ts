/** Records that are held in memory, by the position of their frame; the oldest go first. */

/** Bytes to hold at most, besides the newest record. */
const MAX_HELD = 2 ** 27;

export class HeldRecords {
  private readonly records = new Map<number, Uint8Array<ArrayBuffer>>();
  private bytes = 0;

  get(position: number): Uint8Array<ArrayBuffer> | undefined {
    return this.records.get(position);
  }

  set(position: number, record: Uint8Array<ArrayBuffer>): void {
    if (this.records.has(position)) return;
    this.records.set(position, record);
    this.bytes += record.length;
    for (const [oldest, { length }] of this.records) {
      if (this.bytes <= MAX_HELD || oldest === position) break;
      this.records.delete(oldest);
      this.bytes -= length;
    }
  }

  /** Positions [from, to) that are held, of `count`. */
  ranges(count: number): [number, number][] {
    const ranges: [number, number][] = [];
    for (let position = 0; position < count; position++) {
      if (!this.records.has(position)) continue;
      const last = ranges.at(-1);
      if (last?.[1] === position) last[1]++;
      else ranges.push([position, position + 1]);
    }
    return ranges;
  }
}
