/** FORMAT.md "Places": how the values of a tensor are grouped. */

export interface Places {
  /** Values of a place. */
  features: number;
  /** 0: in space; 1: in a table; 2: in a matrix; 3: in a vector. */
  kind: 0 | 1 | 2 | 3;
  /** Number of places, in a row of the last dimension, and in a plane of the last two. */
  count: number;
  width: number;
  plane: number;
}

export function placesOf(shape: number[]): Places {
  const last = shape.at(-1)!;
  const grouped = shape.length > 1 && last <= 4;
  const dimensions = grouped ? shape.slice(0, -1) : shape;
  const count = dimensions.reduce((a, b) => a * b, 1);
  const width = dimensions.at(-1)!;
  const kind = dimensions.length > 2 ? 0 : dimensions.length === 2 ? 2 : grouped ? 1 : 3;
  return { features: grouped ? last : 1, kind, count, width, plane: width * (dimensions.at(-2) ?? 1) };
}
