/** FORMAT.md "State": the digest, a sum modulo 2^64, in arithmetic of 32 bits. */

const START = 0x9e3779b97f4a7c15n;
const N_HIGH = 0x9e3779b9;
const N_LOW_HIGH = 0x7f4a;
const N_LOW_LOW = 0x7c15;
const Z_HIGH = 0xd6e8feb8;
const Z_LOW = 0x6659fd93;
/** Summands of 2^41 that a double adds up exactly. */
const EXACT = 2 ** 12;

export class Digest {
  private sum = START;
  // What is not in `sum` yet: low + 2^16 middle + 2^32 high.
  private low = 0;
  private middle = 0;
  private high = 0;
  private count = 0;

  reset(): void {
    this.sum = START;
    this.low = this.middle = this.high = this.count = 0;
  }

  /** Add the n-th number, from 1; below 2^25 in magnitude. */
  add(n: number, value: number): void {
    // z = n * 9E3779B97F4A7C15
    const n0 = n * N_LOW_LOW;
    const n1 = n * N_LOW_HIGH;
    const n2 = n0 + (n1 & 0xffff) * 65536;
    const zHigh = (Math.floor(n2 / 2 ** 32) + Math.floor(n1 / 65536) + Math.imul(n, N_HIGH)) >>> 0;
    // z xor (z >> 32)
    const zLow = (n2 ^ zHigh) >>> 0;
    // times D6E8FEB86659FD93
    const m0 = (zLow & 0xffff) * Z_LOW;
    const m1 = (zLow >>> 16) * Z_LOW;
    const m2 = m0 + (m1 & 0xffff) * 65536;
    const carried = Math.floor(m2 / 2 ** 32) + Math.floor(m1 / 65536);
    const high = (carried + Math.imul(zHigh, Z_LOW) + Math.imul(zLow, Z_HIGH)) | 0;
    const w = (m2 ^ high) | 1;
    this.low += (w & 0xffff) * value;
    this.middle += (w >>> 16) * value;
    this.high = (this.high + Math.imul(high, value)) | 0;
    if (++this.count === EXACT) this.carry();
  }

  private carry(): void {
    this.sum += BigInt(this.low) + (BigInt(this.middle) << 16n) + (BigInt(this.high) << 32n);
    this.low = this.middle = this.high = this.count = 0;
  }

  /** As it is stored: little-endian. */
  bytes(): Uint8Array {
    this.carry();
    this.sum = BigInt.asUintN(64, this.sum);
    const result = new Uint8Array(8);
    new DataView(result.buffer).setBigUint64(0, this.sum, true);
    return result;
  }
}
