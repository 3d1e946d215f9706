// The entries of a grid as one texture, and the GLSL that looks them up (FORMAT.md, "Profile 2" and "4").

import type { NetworkState } from "../field/frame";

interface Level {
  tensor: string;
  resolution: number;
  entries: number;
  dense: boolean;
  /** Of the texture, where it begins. */
  row: number;
}

/** Values of some whole rows, or of the beginning of one: what `texSubImage2D` takes. */
export interface Patch {
  row: number;
  rows: number;
  width: number;
  values: Float32Array;
}

const NARROWEST = 8;
/** Rows that no device with WebGL 2 refuses. */
const ROWS = 2048;

/** Pairs of all levels, each beginning with a row of its own. Rows are as narrow as possible, so that few are changed. */
export class Table {
  private readonly levels: Level[] = [];
  private bits = NARROWEST;
  rows = 0;

  /**
   * @param axes - 2 or 3.
   * @param log2Table - logarithm of the most entries that a level of three axes has.
   */
  constructor(
    private readonly prefix: string,
    resolutions: number[],
    private readonly axes: 2 | 3,
    log2Table: number,
  ) {
    const most = axes === 3 ? 2 ** log2Table : Infinity;
    const sizes = resolutions.map((resolution) => Math.min((resolution + 1) ** axes, most));
    const rowsOf = (entries: number): number => Math.ceil(entries / this.width);
    while (sizes.reduce((sum, size) => sum + rowsOf(size), 0) > ROWS) this.bits++;
    resolutions.forEach((resolution, i) => {
      const dense = (resolution + 1) ** axes <= most;
      this.levels.push({ tensor: `grid.${i}`, resolution, entries: sizes[i]!, dense, row: this.rows });
      this.rows += rowsOf(sizes[i]!);
    });
  }

  get width(): number {
    return 2 ** this.bits;
  }

  /** GLSL of `prefix_level0(at)` and so on. */
  get glsl(): string {
    const fetch = `
uniform highp sampler2D ${this.prefix}_table;
vec2 ${this.prefix}_entry(int i) {
  return texelFetch(${this.prefix}_table, ivec2(i & ${this.width - 1}, i >> ${this.bits}), 0).xy;
}
`;
    return fetch + this.levels.map((level, i) => this.lookUp(level, i)).join("");
  }

  private lookUp(level: Level, index: number): string {
    const { resolution: r, dense, entries, row } = level;
    const [p, type, start, side] = [this.prefix, `vec${this.axes}`, row * this.width, r + 1];
    const begin = `
vec2 ${p}_level${index}(vec3 point) {
  ${type} q = ${r}.0 * point.${this.axes === 3 ? "xyz" : "xy"};
  ${type} b = min(floor(q), ${r - 1}.0);
  ${type} f = q - b;`;
    const across = (names: string[]): string => `mix(${names[0]}, ${names[1]}, f.x)`;
    if (this.axes === 2) {
      const at = (x: number, y: number): string => `${p}_entry(i + ${x * side + y})`;
      return `${begin}
  int i = ${start} + int(b.x) * ${side} + int(b.y);
  return mix(${across([at(0, 0), at(1, 0)])}, ${across([at(0, 1), at(1, 1)])}, f.y);
}`;
    }
    const at = (x: number, y: number, z: number): string =>
      dense
        ? `${p}_entry(i + ${(x * side + y) * side + z})`
        : `${p}_entry(${start} + int((x.${"xy"[x]} ^ y.${"xy"[y]} ^ z.${"xy"[z]}) & ${entries - 1}u))`;
    const row_ = (y: number, z: number): string => across([at(0, y, z), at(1, y, z)]);
    const index_ = dense
      ? `int i = ${start} + (int(b.x) * ${side} + int(b.y)) * ${side} + int(b.z);`
      : `uvec2 x = uvec2(b.x) + uvec2(0, 1);
  uvec2 y = (uvec2(b.y) + uvec2(0, 1)) * 2654435761u;
  uvec2 z = (uvec2(b.z) + uvec2(0, 1)) * 805459861u;`;
    return `${begin}
  ${index_}
  return mix(
    mix(${row_(0, 0)}, ${row_(1, 0)}, f.y),
    mix(${row_(0, 1)}, ${row_(1, 1)}, f.y), f.z);
}`;
  }

  /** What to upload of a frame: the rows that changed, or all of them. */
  *patches(state: NetworkState, all: boolean): Generator<Patch> {
    for (const level of this.levels) {
      const values = state.tensors.get(level.tensor)!;
      const changed = all ? [[0, values.length] as const] : (state.changed.get(level.tensor) ?? []);
      const row = 2 * this.width;
      for (const [from, to] of joined(changed.map(([a, b]) => [Math.floor(a / row), Math.ceil(b / row)] as const))) {
        const whole = Math.min(to, Math.floor(values.length / row));
        const patch = (first: number, rows: number, width: number): Patch => {
          const part = values.subarray(first * row, first * row + 2 * rows * width);
          return { row: level.row + first, rows, width, values: part };
        };
        if (whole > from) yield patch(from, whole - from, this.width);
        if (to > whole) yield patch(whole, 1, values.length / 2 - whole * this.width);
      }
    }
  }
}

/** Increasing ranges, with those that touch made one. */
function* joined(ranges: (readonly [number, number])[]): Generator<readonly [number, number]> {
  let last: readonly [number, number] | null = null;
  for (const range of ranges) {
    if (last && range[0] <= last[1]) last = [last[0], Math.max(last[1], range[1])];
    else {
      if (last) yield last;
      last = range;
    }
  }
  if (last) yield last;
}
