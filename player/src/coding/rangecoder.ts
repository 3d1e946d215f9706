/** FORMAT.md "Bits" and "Adaptive bits". */

import { need } from "../errors";
import { RATE, SQUASH, STRETCH, type Statistics } from "./statistics";

const MAX_WEIGHT = 2 ** 20;

/** Decodes the bits of one record. */
export class BitDecoder {
  /** The contexts of the next adaptive bit. */
  readonly inputs = new Int32Array(5);
  private readonly stretched = new Int32Array(6);
  private readonly contexts: Uint32Array;
  private readonly weights: Int32Array;
  private range = 0xffffffff;
  private code = 0;
  private used = 0;

  constructor(
    private readonly data: Uint8Array,
    statistics: Statistics,
  ) {
    this.contexts = statistics.contexts;
    this.weights = statistics.weights;
    for (let i = 0; i < 4; i++) this.code = ((this.code << 8) | this.next()) >>> 0;
  }

  private next(): number {
    return this.data[this.used++] ?? 0;
  }

  /** A bit whose probability of being 1 is p / 2^16. */
  raw(p: number): 0 | 1 {
    const bound = Math.imul(this.range >>> 16, p) >>> 0;
    let bit: 0 | 1;
    if (this.code < bound) {
      bit = 1;
      this.range = bound;
    } else {
      bit = 0;
      this.code -= bound;
      this.range -= bound;
    }
    while (this.range < 2 ** 24) {
      this.range = (this.range << 8) >>> 0;
      this.code = ((this.code << 8) | this.next()) >>> 0;
    }
    return bit;
  }

  /** An adaptive bit, with the mixer whose weights begin at `mixer` and the first k of `inputs`. */
  bit(mixer: number, k: number): 0 | 1 {
    const { inputs, stretched, contexts, weights } = this;
    // The sum may need 35 bits: it is taken as a double, which is exact.
    let sum = 256 * weights[mixer + k]! + 32768;
    for (let i = 0; i < k; i++) {
      const s = STRETCH[contexts[inputs[i]!]! >>> 20]!;
      stretched[i] = s;
      sum += weights[mixer + i]! * s;
    }
    stretched[k] = 256;
    const d = Math.floor(sum / 65536);
    const p = SQUASH[d < -2047 ? 1 : d > 2047 ? 4095 : d + 2048]!;
    const bit = this.raw(p);
    const e = (bit << 16) - p;
    for (let i = 0; i <= k; i++) {
      const w = weights[mixer + i]! + ((Math.imul(stretched[i]!, e) + 65536) >> 17);
      weights[mixer + i] = Math.max(-MAX_WEIGHT, Math.min(w, MAX_WEIGHT));
    }
    const target = bit ? 4194303 : 0;
    for (let i = 0; i < k; i++) {
      const at = inputs[i]!;
      const context = contexts[at]!;
      const n = context & 1023;
      const chance = context >>> 10;
      const far = target - chance;
      const rate = RATE[n]!;
      // (far * rate) >> 16, in steps of 32 bits.
      const step = (Math.imul(far >> 8, rate) + (Math.imul(far & 255, rate) >> 8)) >> 8;
      contexts[at] = ((chance + step) << 10) | (n < 1023 ? n + 1 : 1023);
    }
    return bit;
  }

  /**
   * Take note that all bits are decoded.
   *
   * @throws InvError damaged: the data could be shorter
   */
  finish(): void {
    need(this.data.length <= this.used, "damaged", "its coded values are followed by other bytes");
    need(this.data.length === 0 || this.data.at(-1) !== 0, "damaged", "its coded values end with a zero byte");
  }
}
