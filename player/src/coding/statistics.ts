/** FORMAT.md "Adaptive bits": contexts and mixers, and the numbers that they start with. */

const ANCHORS = [
  22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
  57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
];

/** Probability by log-odds d, at index d + 2048. */
export const SQUASH = Uint16Array.from({ length: 4096 }, (_, i) => {
  const j = i >> 7;
  const r = i & 127;
  return ((128 - r) * ANCHORS[j]! + r * ANCHORS[j + 1]! + 64) >> 7;
});

/** Log-odds by probability in units of 1/4096: the inverse of `SQUASH`. */
export const STRETCH = Int16Array.from({ length: 4096 }, (_, x) => {
  for (let d = -2047; d < 2048; d++) if (SQUASH[d + 2048]! >> 4 >= x) return d;
  return 2047;
});

/** How far a probability moves, in units of 2^-16, by the number of times that it has moved. */
export const RATE = Uint16Array.from({ length: 1024 }, (_, n) => Math.floor(131072 / (2 * n + 3)));

const HALF = 2 ** 21;
const sizes: [number, number][] = [];
let contexts = 0;

/** Where a family of contexts begins. */
function family(size: number, first = HALF): number {
  sizes.push([size, first]);
  contexts += size;
  return contexts - size;
}

const SETS = 64;
const KINDS = 4;
const HINTS = 16;
const AGES = 4;

// The comments give each family's indices; the last one moves fastest.
export const CHANGES = family(SETS); // t
export const BLOCK = family(SETS * 8 * 2, 2 ** 20); // t, g, u
export const BLOCK_NEAR = family(KINDS * 4 * 8, 2 ** 20); // k, n, g
export const HINT = family(SETS * HINTS * AGES, 2 ** 18); // t, hint, a
export const PAST = family(KINDS * 8 * 8 * AGES, 2 ** 18); // k, n, h, a
export const HISTORY = family(KINDS * 32 * 4, 2 ** 18); // k, history >> 3, R
export const BEFORE = family(KINDS * 8 * HINTS * 2, 2 ** 18); // k, size(b), hint, a > 0
export const FORM = family(KINDS * 64 * 4, 2 ** 18); // k, o, q
export const FEATURE = family(SETS * 4 * 4); // t, f, min(|s|, 3)
export const FEATURE_RECENT = family(4 * 4 * 4 * 4); // |recent|, R, f, min(|s|, 3)
export const FEATURE_HINT = family(HINTS * AGES * 4 * 4); // hint, a, f, min(|s|, 3)
export const SIGN = family(SETS * 3 * 3); // t, sgn(recent), sgn(before)
export const SIGN_BEFORE = family(KINDS * 8 * 3 * 3); // k, size(before), sgn(before), sgn(s)
export const SIGN_NEAR = family(SETS * 3 * 3 * 3); // t, sgn(v1), sgn(v2), sgn(v3)
export const SIZE = family(SETS * 4 * 16); // t, |recent|, e'
export const SIZE_NEAR = family(KINDS * 64 * 16); // k, c, e'
export const SIZE_HINT = family(KINDS * HINTS * 16); // k, hint, e'
export const SIZE_MEAN = family(KINDS * 16 * 16); // k, l, e'
export const BITS = family(SETS * 16 * 4); // t, e', j
export const BITS_MEAN = family(KINDS * 16 * 16 * 4); // k, l, e', j

/** Weights of a mixer: at most five inputs and a bias. */
export const MIXER_SIZE = 6;
const inputs: number[] = [];

/** Where the weights of `count` mixers of k inputs begin. */
function mixers(count: number, k: number): number {
  const first = inputs.length;
  for (let i = 0; i < count; i++) inputs.push(k);
  return first * MIXER_SIZE;
}

export const MIX_CHANGES = mixers(1, 1);
export const MIX_BLOCK = mixers(KINDS, 2); // k
export const MIX_PLACE = mixers(KINDS * 2 * 2 * 2, 5); // k, a > 0, hint > 0, n > 0
export const MIX_FEATURE = mixers(1, 3);
export const MIX_SIGN = mixers(KINDS, 3); // k
export const MIX_SIZE = mixers(KINDS * 3, 4); // k, min(e, 2)
export const MIX_BITS = mixers(1, 2);

export class Statistics {
  /** A probability, in units of 2^-22, times 1024 plus a count. */
  readonly contexts = new Uint32Array(contexts);
  readonly weights = new Int32Array(inputs.length * MIXER_SIZE);

  constructor() {
    this.reset();
  }

  reset(): void {
    let at = 0;
    for (const [size, first] of sizes) {
      this.contexts.fill(first << 10, at, at + size);
      at += size;
    }
    inputs.forEach((k, i) => {
      const weights = this.weights.subarray(i * MIXER_SIZE, (i + 1) * MIXER_SIZE);
      weights.fill(Math.floor(72000 / k), 0, k);
      weights.fill(0, k);
    });
  }
}
