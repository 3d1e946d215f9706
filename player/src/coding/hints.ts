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
  /** By cell. */
  private activity = new Uint8Array(0);
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
    this.activity = new Uint8Array(values.length);
    let count = 0;
    for (let i = 0; i < values.length; i++) if (values[i] !== 0) count++;
    this.occupied = new Int32Array(count);
    for (let i = 0, at = 0; i < values.length; i++) if (values[i] !== 0) this.occupied[at++] = i;
  }

  /** Hints [count] of tensor t, which comes next; null: all are 0. */
  of(t: number, count: number): Uint8Array | null {
    const level = this.cells ? levelOf(this.network, t) : null;
    if (!level) return null;
    const cells = this.isKey ? this.occupied : this.active();
    if (!this.enter(level, cells.length)) return null;
    return this.isKey ? this.counts(level, count) : this.activities(level, cells, count);
  }

  /** Update activities after tensor t of a DELTA, given which places [count] changed; null: none. */
  learn(t: number, changed: Uint8Array | null): void {
    const level = this.cells ? levelOf(this.network, t) : null;
    if (!level) return;
    const cells = level.table ? this.active() : this.occupied;
    if (!this.enter(level, cells.length)) return;
    for (const cell of cells) {
      const share = changed ? this.share(level, cell, changed) : 0;
      this.activity[cell] = (this.activity[cell]! + share) >> 1;
    }
  }

  private active(): Int32Array<ArrayBuffer> {
    return this.occupied.filter((cell) => this.activity[cell]! > 0);
  }

  /** Prepare to visit a number of cells; false if that would take too long. */
  private enter({ resolution: r }: Level, count: number): boolean {
    const side = this.cells;
    const span = Math.floor((r + side - 1) / side) + 2;
    if (count * span ** 3 > MAX_VISITED) return false;
    if (count && this.entries.length < span ** 2) this.entries = new Int32Array(span ** 2);
    this.first = Int32Array.from({ length: side }, (_, a) => Math.floor((a * r) / side));
    this.last = Int32Array.from({ length: side }, (_, a) => {
      return Math.min(Math.floor(((a + 1) * r + side - 1) / side), r);
    });
    return true;
  }

  /** Of a KEY: by the number of pairs of an occupied cell and a vertex that it touches. */
  private counts(level: Level, count: number): Uint8Array {
    const pairs = new Int32Array(count);
    for (const cell of this.occupied) {
      const [a, b, c] = this.place(cell);
      for (let x = this.first[a]!; x <= this.last[a]!; x++) {
        const visited = this.visit(level, x, b, c);
        for (let i = 0; i < visited; i++) pairs[this.entries[i]!]!++;
      }
    }
    const hints = new Uint8Array(count);
    for (let i = 0; i < count; i++) hints[i] = Math.min(32 - Math.clz32(pairs[i]!), 15);
    return hints;
  }

  /** Of a DELTA: by the highest activity of the cells that touch a vertex. */
  private activities(level: Level, cells: Int32Array, count: number): Uint8Array {
    const highest = new Uint8Array(count);
    for (const cell of cells) {
      const [a, b, c] = this.place(cell);
      const hint = HINT_OF[this.activity[cell]!]!;
      for (let x = this.first[a]!; x <= this.last[a]!; x++) {
        const visited = this.visit(level, x, b, c);
        for (let i = 0; i < visited; i++) {
          const entry = this.entries[i]!;
          if (highest[entry]! < hint) highest[entry] = hint;
        }
      }
    }
    return highest;
  }

  /** How many of 32 vertices that a cell touches are looked up in places that changed. */
  private share(level: Level, cell: number, changed: Uint8Array): number {
    const [a, b, c] = this.place(cell);
    let all = 0;
    let found = 0;
    for (let x = this.first[a]!; x <= this.last[a]!; x++) {
      const visited = this.visit(level, x, b, c);
      for (let i = 0; i < visited; i++) found += changed[this.entries[i]!]!;
      all += visited;
    }
    return Math.floor((32 * found) / all);
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

  private place(cell: number): [number, number, number] {
    const side = this.cells;
    return [Math.floor(cell / (side * side)), Math.floor(cell / side) % side, cell % side];
  }
}
