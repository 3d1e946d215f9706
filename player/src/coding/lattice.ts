/** FORMAT.md "Lattice". */

/** The step of a quantisation parameter; an integer times it, rounded to 32 bits, is a weight. */
export function step(qp: number): number {
  return (8 + (qp & 7)) * 2 ** ((qp >> 3) - 3);
}
