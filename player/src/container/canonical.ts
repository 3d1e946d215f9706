/**
 * MessagePack in the canonical form of FORMAT.md ("Structured fields").
 *
 * Libraries read any MessagePack, and do not tell 1 from 1.0 or a long form from a short one; this reads the one spelling
 * that each value has, and nothing else.
 */

import { InvError, need } from "../errors";
import { MAX_NESTING } from "../limits";

/** A float 64; `number` stands for an integer. */
export class Real {
  constructor(readonly value: number) {}
}

/** An integer is a `bigint` if it is not safe as a `number`. */
export type Value = null | boolean | number | bigint | Real | string | Uint8Array | Value[] | Map<string, Value>;

const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The data end inside a value. */
class CutShort extends InvError {}

class Unpacker {
  at = 0;
  private readonly view: DataView;

  constructor(
    private readonly data: Uint8Array,
    private readonly what: string,
  ) {
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  value(depth: number): Value {
    this.need(depth <= MAX_NESTING, `nested deeper than ${MAX_NESTING}`);
    const tag = this.data[this.take(1)]!;
    if (tag <= 0x7f) return tag;
    if (tag >= 0xe0) return tag - 256;
    if (tag <= 0x8f) return this.map(tag & 15, depth);
    if (tag <= 0x9f) return this.list(tag & 15, depth);
    if (tag <= 0xbf) return this.text(tag & 31);
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.bytes(this.unsigned(1, 0));
      case 0xc5:
        return this.bytes(this.unsigned(2, 2 ** 8));
      case 0xc6:
        return this.bytes(this.unsigned(4, 2 ** 16));
      case 0xcb:
        return this.real();
      case 0xcc:
        return this.unsigned(1, 2 ** 7);
      case 0xcd:
        return this.unsigned(2, 2 ** 8);
      case 0xce:
        return this.unsigned(4, 2 ** 16);
      case 0xcf:
        return this.long(this.view.getBigUint64(this.take(8)), (value) => value >= 2n ** 32n);
      case 0xd0:
        return this.negative(this.view.getInt8(this.take(1)), -(2 ** 5));
      case 0xd1:
        return this.negative(this.view.getInt16(this.take(2)), -(2 ** 7));
      case 0xd2:
        return this.negative(this.view.getInt32(this.take(4)), -(2 ** 15));
      case 0xd3:
        return this.long(this.view.getBigInt64(this.take(8)), (value) => value < -(2n ** 31n));
      case 0xd9:
        return this.text(this.unsigned(1, 2 ** 5));
      case 0xda:
        return this.text(this.unsigned(2, 2 ** 8));
      case 0xdb:
        return this.text(this.unsigned(4, 2 ** 16));
      case 0xdc:
        return this.list(this.unsigned(2, 2 ** 4), depth);
      case 0xdd:
        return this.list(this.unsigned(4, 2 ** 16), depth);
      case 0xde:
        return this.map(this.unsigned(2, 2 ** 4), depth);
      case 0xdf:
        return this.map(this.unsigned(4, 2 ** 16), depth);
      default:
        throw new InvError("damaged", `${this.what}: type ${tag.toString(16)} is not canonical`);
    }
  }

  need(ok: boolean, problem: string): asserts ok {
    need(ok, "damaged", `${this.what}: ${problem}`);
  }

  /** Where the next bytes are. */
  private take(count: number): number {
    if (count > this.data.length - this.at) throw new CutShort("damaged", `${this.what}: cut short`);
    this.at += count;
    return this.at - count;
  }

  /** An integer or a length, which shorter forms would hold if it were below `low`. */
  private unsigned(size: 1 | 2 | 4, low: number): number {
    const at = this.take(size);
    const value = size === 1 ? this.view.getUint8(at) : size === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
    this.need(value >= low, "an integer or length is not in its shortest form");
    return value;
  }

  private negative(value: number, below: number): number {
    this.need(value < below, "an integer is not in its shortest form");
    return value;
  }

  private long(value: bigint, isShortest: (value: bigint) => boolean): number | bigint {
    this.need(isShortest(value), "an integer is not in its shortest form");
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  private real(): Real {
    const value = this.view.getFloat64(this.take(8));
    this.need(Number.isFinite(value), "not a finite number");
    return new Real(value);
  }

  private bytes(count: number): Uint8Array {
    const at = this.take(count);
    return this.data.slice(at, at + count);
  }

  private text(count: number): string {
    const at = this.take(count);
    try {
      return TEXT.decode(this.data.subarray(at, at + count));
    } catch {
      throw new InvError("damaged", `${this.what}: a string is not UTF-8`);
    }
  }

  private list(count: number, depth: number): Value[] {
    const result: Value[] = [];
    for (let i = 0; i < count; i++) result.push(this.value(depth + 1));
    return result;
  }

  private map(count: number, depth: number): Map<string, Value> {
    const result = new Map<string, Value>();
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      this.need(typeof key === "string", "a key is not text");
      this.need(!result.has(key), "a key occurs twice");
      result.set(key, this.value(depth + 1));
    }
    return result;
  }
}

/**
 * The value that fills the data; `what` names it in messages.
 *
 * @throws InvError damaged
 */
export function unpack(data: Uint8Array, what: string): Value {
  const unpacker: Unpacker = new Unpacker(data, what);
  const value = unpacker.value(0);
  unpacker.need(unpacker.at === data.length, "bytes follow it");
  return value;
}

/**
 * The value that the data begin with, and its size in bytes.
 *
 * @throws InvError damaged; limit: it does not end within `limit` bytes
 */
export function unpackFirst(data: Uint8Array, what: string, limit: number): [Value, number] {
  const unpacker = new Unpacker(data.subarray(0, limit), what);
  try {
    return [unpacker.value(0), unpacker.at];
  } catch (error) {
    if (error instanceof CutShort && data.length > limit)
      throw new InvError("limit", `${what}: more than ${limit} bytes`);
    throw error;
  }
}
