// Which parts of space are empty (FORMAT.md, "Compositing"), prepared so that rays skip them.

import type { NetworkState } from "../field/frame";

/** Cells along each edge of a block. */
export const BLOCK = 4;

export const blocksOf = (cells: number): number => Math.ceil(cells / BLOCK);

/**
 * For each block of cells, [B, B, B] row-major: 0 if a sample in it may be used; else how many blocks away the nearest
 * such block is, along the axis on which it is farthest. At most 255.
 *
 * @param side - cells along each axis.
 */
export function gaps(state: NetworkState, side: number): Uint8Array {
  const owners = state.occupancy!;
  const motion = state.tensors.get("motion");
  const parts = (motion?.length ?? 0) / 12;
  const count = blocksOf(side);
  const near = new Uint8Array(count ** 3);
  const rows = Array.from({ length: parts }, (_, p) => inverse(motion!.subarray(12 * p, 12 * p + 12)));
  for (let x = 0, i = 0; x < side; x++) {
    for (let y = 0; y < side; y++) {
      for (let z = 0; z < side; z++, i++) {
        const owner = owners[i]!;
        if (owner === 1) near[block(x, y, z, count)] = 1;
        else if (owner > 1) markPart(near, count, side, rows[owner - 2]!, x, y, z);
      }
    }
  }
  return distances(near, count);
}

const block = (x: number, y: number, z: number, count: number): number =>
  ((x >> 2) * count + (y >> 2)) * count + (z >> 2);

/** The map from a part's own position to where it is now, as 3 rows of 4 around the centre; null if it has none. */
function inverse(row: Float32Array): number[] | null {
  const m = [0, 1, 2].map((i) => [0, 1, 2].map((k) => row[4 * i + k]! + (i === k ? 1 : 0)));
  const minor = (i: number, k: number): number => {
    const [a, b] = [(i + 1) % 3, (i + 2) % 3];
    const [c, d] = [(k + 1) % 3, (k + 2) % 3];
    return m[a]![c]! * m[b]![d]! - m[a]![d]! * m[b]![c]!;
  };
  const determinant = [0, 1, 2].reduce((sum, k) => sum + m[0]![k]! * minor(0, k), 0);
  if (!(Math.abs(determinant) > 1e-6)) return null;
  return [0, 1, 2].flatMap((i) => {
    const line = [0, 1, 2].map((k) => minor(k, i) / determinant);
    return [...line, -line.reduce((sum, value, k) => sum + value * row[4 * k + 3]!, 0)];
  });
}

/** Mark the blocks that a cell of a part reaches in its present position. */
function markPart(near: Uint8Array, count: number, side: number, row: number[] | null, ...cell: number[]): void {
  const reach = [0, 1, 2].map((i) => {
    if (!row) return [0, count - 1] as const;
    const line = row.slice(4 * i, 4 * i + 4);
    const centre = 0.5 + line[3]! + cell.reduce((sum, at, k) => sum + line[k]! * ((at + 0.5) / side - 0.5), 0);
    const half = (0.51 / side) * (Math.abs(line[0]!) + Math.abs(line[1]!) + Math.abs(line[2]!));
    const at = (position: number): number => Math.floor((position * side) / BLOCK);
    return [Math.max(at(centre - half), 0), Math.min(at(centre + half), count - 1)] as const;
  });
  const [xs, ys, zs] = reach as [readonly [number, number], readonly [number, number], readonly [number, number]];
  for (let x = xs[0]; x <= xs[1]; x++) {
    for (let y = ys[0]; y <= ys[1]; y++)
      near.fill(1, (x * count + y) * count + zs[0], (x * count + y) * count + zs[1] + 1);
  }
}

function distances(near: Uint8Array, count: number): Uint8Array {
  const out = new Uint8Array(near.length).fill(255);
  let reached = near;
  for (let distance = 0; distance < Math.min(count, 255); distance++) {
    let left = false;
    for (let i = 0; i < out.length; i++) {
      if (out[i] === 255 && reached[i]) out[i] = distance;
      left ||= out[i] === 255;
    }
    if (!left) break;
    for (const stride of [1, count, count * count]) reached = spread(reached, count, stride);
  }
  return out;
}

/** Marks and their two neighbours along the axis with this stride. */
function spread(marks: Uint8Array, count: number, stride: number): Uint8Array {
  const out = marks.slice();
  for (let i = 0; i < marks.length; i++) {
    const place = Math.floor(i / stride) % count;
    if ((place > 0 && marks[i - stride]) || (place < count - 1 && marks[i + stride])) out[i] = 1;
  }
  return out;
}
