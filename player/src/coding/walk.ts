/** FORMAT.md "Walk": decodes the values of one tensor. The names of variables are those of the text. */

import { InvError } from "../errors";
import type { Places } from "./places";
import type { BitDecoder } from "./rangecoder";
import {
  BEFORE,
  BITS,
  BITS_MEAN,
  BLOCK,
  BLOCK_NEAR,
  FEATURE,
  FEATURE_HINT,
  FEATURE_RECENT,
  FORM,
  HINT,
  HISTORY,
  MIX_BITS,
  MIX_BLOCK,
  MIX_FEATURE,
  MIX_PLACE,
  MIX_SIGN,
  MIX_SIZE,
  MIXER_SIZE,
  PAST,
  SIGN,
  SIGN_BEFORE,
  SIGN_NEAR,
  SIZE,
  SIZE_HINT,
  SIZE_MEAN,
  SIZE_NEAR,
} from "./statistics";

const BLOCK_PLACES = 32;
const HALF = 2 ** 15;

const SIZES = Uint8Array.from({ length: 33 }, (_, m) => (m < 3 ? m : 33 - Math.clz32(m - 1)));

function size(m: number): number {
  const magnitude = Math.abs(m);
  return magnitude < 33 ? SIZES[magnitude]! : 7;
}

function sgn(m: number): number {
  return m === 0 ? 0 : m > 0 ? 1 : 2;
}

/** What a decoder knows of a tensor before a record; in a KEY, all of it is 0. */
export interface Past {
  isKey: boolean;
  /** Integers [count * features]. */
  before: Int32Array;
  /** [count * features]. */
  recent: Int8Array;
  /** [count]. */
  history: Uint8Array;
  /** [count]; null: all are 0. */
  hints: Uint8Array | null;
}

export class Walk {
  private readonly inputs: Int32Array;
  /** Of kind 2: sums of magnitudes so far, in each column and in row `y`. */
  private readonly sums: { column: Float64Array; row: number; y: number };
  /** G of the text. */
  private mean = 200;
  // Of the place: neighbours, or -1.
  private left = -1;
  private up = -1;
  private back = -1;
  private form = 0;

  /**
   * @param t the tensor's set
   * @param v where values go, [count * features] zeros
   * @param changed where it goes which places have values other than 0, [count] zeros
   */
  constructor(
    private readonly coder: BitDecoder,
    private readonly t: number,
    private readonly places: Places,
    private readonly past: Past,
    private readonly v: Int32Array,
    private readonly changed: Uint8Array,
  ) {
    this.inputs = coder.inputs;
    this.sums = { column: new Float64Array(places.kind === 2 ? places.width : 0), row: 0, y: 0 };
  }

  /** @throws InvError damaged */
  run(): void {
    const { coder, inputs, t } = this;
    const { kind, features, count } = this.places;
    const { history, hints, isKey } = this.past;
    const mayBeCold = !isKey || features > 1;
    let u = 0;
    for (let start = 0; start < count; start += BLOCK_PLACES) {
      const end = Math.min(start + BLOCK_PLACES, count);
      let cold = 0;
      if (mayBeCold) for (let i = start; i < end; i++) if (history[i] === 0 && !hints?.[i]) cold++;
      let passed = false;
      if (cold > 0) {
        const g = Math.min((8 * cold) >> 5, 7);
        const n = kind === 0 ? this.nearBlock(start, end) : 0;
        inputs[0] = BLOCK + (t * 8 + g) * 2 + u;
        inputs[1] = BLOCK_NEAR + (kind * 4 + n) * 8 + g;
        u = coder.bit(MIX_BLOCK + kind * MIXER_SIZE, 2);
        passed = u === 0;
        if (passed && cold === end - start) continue;
      }
      for (let i = start; i < end; i++) if (!passed || history[i] !== 0 || hints?.[i]) this.place(i);
    }
  }

  /** Whether places of a block have changed neighbours, in the row and in the plane before. */
  private nearBlock(start: number, end: number): number {
    return this.anyChanged(start, end, this.places.width) + 2 * this.anyChanged(start, end, this.places.plane);
  }

  private anyChanged(start: number, end: number, step: number): 0 | 1 {
    for (let i = Math.max(start - step, 0); i < end - step; i++) if (this.changed[i]) return 1;
    return 0;
  }

  private place(i: number): void {
    const { coder, inputs, t, changed, v } = this;
    const { kind, features, count, width, plane } = this.places;
    const { history, before, recent, isKey } = this.past;
    const hint = this.past.hints?.[i] ?? 0;
    let n = 0;
    let h = 0;
    let o = 0;
    let q: number;
    if (kind === 1) {
      this.left = i - 1;
      this.up = i - 2;
      this.back = i - 3;
      q = (changed[i - 1] ?? 0) + (changed[i - 2] ?? 0) + (changed[i - 3] ?? 0);
      for (let j = Math.max(i - 8, 0); j < i; j++) n += changed[j]!;
      n += (changed[i - 1] ?? 0) + (changed[i - 2] ?? 0);
      if (i > 1 && history[i - 2]) h++;
      if (i > 0 && history[i - 1]) h++;
      if (history[i + 1]) h++;
      if (history[i + 2]) h++;
      o = hint;
    } else {
      const x = i % width;
      const y = i % plane;
      this.left = x > 0 ? i - 1 : -1;
      this.up = y >= width ? i - width : -1;
      this.back = i - plane;
      const { left, up, back } = this;
      q = (changed[left] ?? 0) + (changed[up] ?? 0) + (changed[back] ?? 0);
      if (kind === 0) {
        n = 2 * q;
        if (up >= 0) n += (x > 0 ? changed[up - 1]! : 0) + (x < width - 1 ? changed[up + 1]! : 0);
        if (back >= 0) n += (x > 0 ? changed[back - 1]! : 0) + (x < width - 1 ? changed[back + 1]! : 0);
        const right = x < width - 1 ? i + 1 : -1;
        const down = y + width < plane ? i + width : -1;
        const front = i + plane < count ? i + plane : -1;
        if (right >= 0 && history[right]) h++;
        if (down >= 0 && history[down]) h++;
        if (front >= 0 && history[front]) h++;
        if (features === 1 && !isKey) {
          let z = 0;
          if (left >= 0 && before[left]! + v[left]! !== 0) z++;
          if (up >= 0 && before[up]! + v[up]! !== 0) z++;
          if (back >= 0 && before[back]! + v[back]! !== 0) z++;
          if (right >= 0 && before[right] !== 0) z++;
          if (down >= 0 && before[down] !== 0) z++;
          if (front >= 0 && before[front] !== 0) z++;
          o = 1 + 2 * z + (before[i] !== 0 ? 1 : 0);
        }
      } else {
        n = size(this.weight(left) + this.weight(up));
        if (kind === 2) {
          const row = Math.floor(i / width);
          if (row !== this.sums.y) this.sums.row = 0;
          this.sums.y = row;
          const across = x === 0 ? 2 : Math.floor((4 * this.sums.row) / x);
          const down = row === 0 ? 2 : Math.floor((4 * this.sums.column[x]!) / row);
          o = 8 * size(across) + size(down);
        }
      }
    }
    if (n > 7) n = 7;
    const past = history[i]!;
    const a = past === 0 ? 0 : past < 32 ? 1 : past < 128 ? 2 : 3;
    let most = 0;
    let weight = 0;
    for (let j = i * features; j < (i + 1) * features; j++) {
      most = Math.max(most, Math.abs(recent[j]!));
      weight = Math.max(weight, Math.abs(before[j]!));
    }
    const isOld = a > 0 ? 1 : 0;
    inputs[0] = HINT + (t * 16 + hint) * 4 + a;
    inputs[1] = PAST + ((kind * 8 + n) * 8 + h) * 4 + a;
    inputs[2] = HISTORY + (kind * 32 + (past >> 3)) * 4 + most;
    inputs[3] = BEFORE + ((kind * 8 + size(weight)) * 16 + hint) * 2 + isOld;
    inputs[4] = FORM + (kind * 64 + o) * 4 + q;
    const mixer = ((kind * 2 + isOld) * 2 + (hint > 0 ? 1 : 0)) * 2 + (n > 0 ? 1 : 0);
    if (coder.bit(MIX_PLACE + mixer * MIXER_SIZE, 5) === 0) return;
    changed[i] = 1;
    this.form = o;
    this.features(i, hint, a, most);
  }

  /** Sum of the magnitudes of a place's values; 0 if there is no such place. */
  private weight(i: number): number {
    if (i < 0) return 0;
    const { features } = this.places;
    let sum = 0;
    for (let j = i * features; j < (i + 1) * features; j++) sum += Math.abs(this.v[j]!);
    return sum;
  }

  /** The values of a changed place. */
  private features(i: number, hint: number, a: number, most: number): void {
    const { coder, inputs, t } = this;
    const { features, kind, width } = this.places;
    let s = 0;
    let any = false;
    for (let f = 0; f < features; f++) {
      if (f < features - 1 || any) {
        const known = f * 4 + Math.min(Math.abs(s), 3);
        const recent = Math.abs(this.past.recent[i * features + f]!);
        inputs[0] = FEATURE + t * 16 + known;
        inputs[1] = FEATURE_RECENT + (recent * 4 + most) * 16 + known;
        inputs[2] = FEATURE_HINT + (hint * 4 + a) * 16 + known;
        if (coder.bit(MIX_FEATURE, 3) === 0) {
          s = 0;
          continue;
        }
      }
      s = this.value(i, f, s, hint);
      any = true;
      if (kind === 2) {
        const magnitude = Math.abs(s);
        const x = i % width;
        this.sums.row += magnitude;
        this.sums.column[x] = this.sums.column[x]! + magnitude;
      }
    }
  }

  /** A value that is not 0. */
  private value(i: number, f: number, s: number, hint: number): number {
    const { coder, inputs, t, v } = this;
    const { features, kind } = this.places;
    const at = i * features + f;
    const recent = this.past.recent[at]!;
    const before = this.past.before[at]!;
    const v1 = this.left >= 0 ? v[this.left * features + f]! : 0;
    const v2 = this.up >= 0 ? v[this.up * features + f]! : 0;
    const v3 = this.back >= 0 ? v[this.back * features + f]! : 0;
    inputs[0] = SIGN + (t * 3 + sgn(recent)) * 3 + sgn(before);
    inputs[1] = SIGN_BEFORE + ((kind * 8 + size(before)) * 3 + sgn(before)) * 3 + sgn(s);
    inputs[2] = SIGN_NEAR + ((t * 3 + sgn(v1)) * 3 + sgn(v2)) * 3 + sgn(v3);
    const negative = coder.bit(MIX_SIGN + kind * MIXER_SIZE, 3);
    const c = kind === 2 ? this.form : 8 * size(Math.abs(v1) + Math.abs(v2) + Math.abs(v3)) + size(s);
    const l = Math.min(Math.max(27 - Math.clz32(this.mean), 0), 15);
    let e = 0;
    while (true) {
      const level = Math.min(e, 15);
      inputs[0] = SIZE + (t * 4 + Math.abs(recent)) * 16 + level;
      inputs[1] = SIZE_NEAR + (kind * 64 + c) * 16 + level;
      inputs[2] = SIZE_HINT + (kind * 16 + hint) * 16 + level;
      inputs[3] = SIZE_MEAN + (kind * 16 + l) * 16 + level;
      if (coder.bit(MIX_SIZE + (kind * 3 + Math.min(e, 2)) * MIXER_SIZE, 4) === 0) break;
      if (++e === 25) throw new InvError("damaged", "a value is out of range");
    }
    const level = Math.min(e, 15);
    let m = 1;
    for (let bits = 0; bits < e; bits++) {
      let bit: number;
      if (m < 4) {
        inputs[0] = BITS + (t * 16 + level) * 4 + m;
        inputs[1] = BITS_MEAN + ((kind * 16 + l) * 16 + level) * 4 + m;
        bit = coder.bit(MIX_BITS, 2);
      } else bit = coder.raw(HALF);
      m = 2 * m + bit;
    }
    this.mean += Math.floor((128 * m - this.mean) / 16);
    v[at] = negative ? -m : m;
    return v[at]!;
  }
}
