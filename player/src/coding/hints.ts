/** FORMAT.md "Hints": what the occupancy of a grid, and what changed in coarser levels, say about the next level. */

import type { Network } from "../container/head";

const MAX_VISITED = 2 ** 26;
const MAX_CELLS = 128;
const MAX_LEVELS = 16;
const THRESHOLDS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 25, 32];
/** Hint by activity. */
const HINT_OF = Uint8Array.from({ length: 33 }, (_, activity) => THRESHOLDS.filter((each) => each <= activity).length);

export function isGrid(network: Network): boolean {
  return network.profile === 2 && network.version === 1;
}

interface Level {
  resolution: number;
  /** Entries of a hashed level; 0: dense. */
  table: number;
}

/** The level of a grid that a tensor is, or null. */
function levelOf(network: Network, t: number): Level | null {
  const { resolutions } = network.config;
  const { name, shape } = network.tensors[t]!;
  if (!isGrid(network) || !Array.isArray(resolutions) || t >= Math.min(resolutions.length, MAX_LEVELS)) return null;
  const resolution = resolutions[t]!;
  if (!(resolution >= 1 && resolution <= 4096) || name !== `grid.${t}`) return null;
  const [first, ...others] = shape as [number, ...number[]];
  const side = resolution + 1;
  if (shape.length === 4 && first === side && others[0] === side && others[1] === side && others[2] === 2) {
    return { resolution, table: 0 };
  }
  const isPower = (first & (first - 1)) === 0;
  return shape.length === 2 && others[0] === 2 && isPower ? { resolution, table: first } : null;
}

/** Hints of one network in one record. */
export class Hints {
  /** M; 0: there are no hints. */
  private cells = 0;
  private occupied = new Int32Array(0);
  /** [occupied] */
  private activity = new Uint8Array(0);
  /** Indices of the occupied cells of activity above 0. */
  private active = new Int32Array(0);
  // Of the level: first and last vertex that a cell touches, along an axis.
  private first = new Int32Array(0);
  private last = new Int32Array(0);
  private entries = new Int32Array(0);

  constructor(
    private readonly network: Network,
    private readonly isKey: boolean,
  ) {}

  /** Take the integers of the occupancy after the record. */
  setOccupancy(values: Int32Array, shape: number[]): void {
    const [cells, ...others] = shape as [number, ...number[]];
    if (others.length !== 2 || others.some((side) => side !== cells) || cells > MAX_CELLS) return;
    this.cells = cells;
    this.first = new Int32Array(cells);
    this.last = new Int32Array(cells);
    const occupied = new Int32Array(values.length);
    let count = 0;
    for (let i = 0; i < values.length; i++) if (values[i] !== 0) occupied[count++] = i;
    this.occupied = occupied.subarray(0, count);
    this.activity = new Uint8Array(count);
    this.active = new Int32Array(count).subarray(0, 0);
  }

  /** Hints [count] of tensor t, which comes next; null: all are 0. */
  of(t: number, count: number): Uint8Array | null {
    const level = this.cells ? levelOf(this.network, t) : null;
    if (!level || !this.enter(level, this.isKey ? this.occupied.length : this.active.length)) return null;
    return this.isKey ? this.counts(level, count) : this.activities(level, count);
  }

  /** Update activities after tensor t of a DELTA, given which places [count] changed; null: none. */
  learn(t: number, changed: Uint8Array | null): void {
    const level = this.cells ? levelOf(this.network, t) : null;
    const { activity, active, occupied } = this;
    if (!level || !this.enter(level, level.table ? active.length : occupied.length)) return;
    const sums = changed && !level.table ? prefixSums(changed) : null;
    const all = new Int32Array(active.buffer);
    const count = level.table ? active.length : occupied.length;
    let kept = 0;
    for (let k = 0; k < count; k++) {
      const i = level.table ? active[k]! : k;
      const share = sums ? this.shareDense(level, i, sums) : changed ? this.shareHashed(level, i, changed) : 0;
      activity[i] = (activity[i]! + share) >> 1;
      if (activity[i]! > 0) all[kept++] = i;
    }
    this.active = all.subarray(0, kept);
  }

  /** Prepare to visit a number of cells; false if that would take too long. */
  private enter({ resolution: r }: Level, count: number): boolean {
    const { cells, first, last } = this;
    const span = Math.floor((r + cells - 1) / cells) + 2;
    if (count * span ** 3 > MAX_VISITED) return false;
    if (count && this.entries.length < span ** 2) this.entries = new Int32Array(span ** 2);
    for (let a = 0; a < cells; a++) {
      first[a] = Math.floor((a * r) / cells);
      last[a] = Math.min(Math.floor(((a + 1) * r + cells - 1) / cells), r);
    }
    return true;
  }

  /** Of a KEY: by the number of pairs of an occupied cell and a vertex that it touches. */
  private counts(level: Level, count: number): Uint8Array {
    const pairs = new Int32Array(count);
    for (let i = 0; i < this.occupied.length; i++) {
      const [a, b, c] = this.place(i);
      for (let x = this.first[a]!; x <= this.last[a]!; x++) {
        const visited = this.visit(level, x, b, c);
        for (let k = 0; k < visited; k++) pairs[this.entries[k]!]!++;
      }
    }
    const hints = new Uint8Array(count);
    for (let i = 0; i < count; i++) hints[i] = Math.min(32 - Math.clz32(pairs[i]!), 15);
    return hints;
  }

  /** Of a DELTA: by the highest activity of the cells that touch a vertex. */
  private activities(level: Level, count: number): Uint8Array {
    const highest = new Uint8Array(count);
    for (let j = 0; j < this.active.length; j++) {
      const i = this.active[j]!;
      const [a, b, c] = this.place(i);
      const hint = HINT_OF[this.activity[i]!]!;
      for (let x = this.first[a]!; x <= this.last[a]!; x++) {
        const visited = this.visit(level, x, b, c);
        for (let k = 0; k < visited; k++) {
          const entry = this.entries[k]!;
          if (highest[entry]! < hint) highest[entry] = hint;
        }
      }
    }
    return highest;
  }

  /** How many of 32 vertices that an occupied cell touches are looked up in places that changed. */
  private shareHashed(level: Level, i: number, changed: Uint8Array): number {
    const [a, b, c] = this.place(i);
    let all = 0;
    let found = 0;
    for (let x = this.first[a]!; x <= this.last[a]!; x++) {
      const visited = this.visit(level, x, b, c);
      for (let k = 0; k < visited; k++) found += changed[this.entries[k]!]!;
      all += visited;
    }
    return Math.floor((32 * found) / all);
  }

  /** The same in a dense level, where vertices along z follow each other, of `prefixSums`. */
  private shareDense({ resolution }: Level, i: number, sums: Int32Array): number {
    const { first, last } = this;
    const [a, b, c] = this.place(i);
    const side = resolution + 1;
    let rows = 0;
    let found = 0;
    for (let x = first[a]!; x <= last[a]!; x++) {
      for (let y = first[b]!; y <= last[b]!; y++) {
        const xy = (x * side + y) * side;
        found += sums[xy + last[c]! + 1]! - sums[xy + first[c]!]!;
        rows++;
      }
    }
    return Math.floor((32 * found) / (rows * (last[c]! - first[c]! + 1)));
  }

  /** Put the entries of the vertices at x that cells (., b, c) touch into `entries`; gives their number. */
  private visit({ resolution, table }: Level, x: number, b: number, c: number): number {
    const { first, last, entries } = this;
    const side = resolution + 1;
    let count = 0;
    for (let y = first[b]!; y <= last[b]!; y++) {
      if (table) {
        const xy = x ^ Math.imul(y, 2654435761);
        for (let z = first[c]!; z <= last[c]!; z++) entries[count++] = (xy ^ Math.imul(z, 805459861)) & (table - 1);
      } else {
        const xy = (x * side + y) * side;
        for (let z = first[c]!; z <= last[c]!; z++) entries[count++] = xy + z;
      }
    }
    return count;
  }

  /** The occupied cell with an index. */
  private place(i: number): [number, number, number] {
    const { cells } = this;
    const cell = this.occupied[i]!;
    return [Math.floor(cell / (cells * cells)), Math.floor(cell / cells) % cells, cell % cells];
  }
}

/** The sum of all that come before each place, and after the last. */
function prefixSums(changed: Uint8Array): Int32Array {
  const sums = new Int32Array(changed.length + 1);
  for (let i = 0; i < changed.length; i++) sums[i + 1] = sums[i]! + changed[i]!;
  return sums;
}
