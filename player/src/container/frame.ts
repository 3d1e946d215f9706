/** FORMAT.md "KEY and DELTA": the header of a frame. */

import { need } from "../errors";
import { MAX_HEADER } from "../limits";
import { unpackFirst, type Value } from "./canonical";
import { integer, isInteger, list, nullable, type Rule } from "./fields";
import { type Camera, cameras, type Head, tableOf } from "./head";

export interface FrameHead {
  ticks: number;
  /** The frame that a DELTA changes; null: a KEY. */
  reference: bigint | null;
  /** Of the state after this frame, little-endian. */
  digest: Uint8Array;
  coder: number;
  /** Of every tensor, in a KEY. */
  qps: number[] | null;
  stats: Stats;
  /** In effect from this frame on, if they change. */
  cameras: Camera[] | null;
}

const MAX_TICKS = 2 ** 53;

const digest: Rule<Uint8Array> = (value, what) => {
  need(value instanceof Uint8Array && value.length === 8, "damaged", `${what} is not 8 bytes`);
  return value;
};

const ticks: Rule<number> = (value, what) => {
  const whole = isInteger(value) ? Number(value) : Number.NaN;
  need(Math.abs(whole) <= MAX_TICKS && BigInt(whole) === BigInt(value as number), "damaged", `${what} is out of range`);
  return whole;
};

const number: Rule<bigint> = (value, what) => {
  need(isInteger(value) && value >= -(2n ** 63n) && value < 2n ** 63n, "damaged", `${what} is not a frame number`);
  return BigInt(value);
};

/** What the encoder tells of a frame; what it does not know is null. */
export interface Stats {
  /** Quality as PSNR in decibels, over pixels that the encoder chose. */
  psnr: number | null;
  /** That of the pixels that changed since the frame before. */
  psnrMoving: number | null;
  /** When a live frame was captured, in milliseconds since 1970 (UTC). */
  captured: number | null;
}

/** The first five are integers or nil; others may be anything. */
const stats: Rule<Stats> = (value, what) => {
  const items = list((each: Value | undefined) => each)(value, what);
  const sound = items.slice(0, 5).every((each) => each === null || isInteger(each));
  need(sound, "damaged", `${what} are not integers`);
  const whole = (index: number): number | null => (isInteger(items[index]) ? Number(items[index]) : null);
  const decibels = (index: number): number | null => {
    const hundredths = whole(index);
    return hundredths === null ? null : hundredths / 100;
  };
  return { psnr: decibels(2), psnrMoving: decibels(3), captured: whole(5) };
};

/**
 * Parse the payload of a frame record: its header, and the coded values that follow it.
 *
 * @throws InvError damaged: the frame is lost; limit: the file is refused
 */
export function parseFrame(head: Head, isKey: boolean, payload: Uint8Array): [FrameHead, Uint8Array] {
  const [value, size] = unpackFirst(payload, "the frame's header", MAX_HEADER);
  need(Array.isArray(value) && value.length >= 7, "damaged", "the frame's header is not a list of seven");
  const get = <T>(index: number, what: string, rule: Rule<T>): T => rule(value[index], `the frame's ${what}`);
  const frame: FrameHead = {
    ticks: get(0, "time", ticks),
    reference: get(1, "reference", nullable(number)),
    digest: get(2, "digest", digest),
    coder: get(3, "coder", integer(0, 255)),
    qps: get(4, "qps", nullable(list(integer(-160, 64)))),
    stats: get(5, "statistics", stats),
    cameras: get(6, "cameras", nullable(cameras)),
  };
  need((frame.reference === null) === isKey, "damaged", "the frame's reference does not fit its record");
  need((frame.qps === null) !== isKey, "damaged", "the frame's qps do not fit its record");
  need(
    !frame.qps || frame.qps.length === tableOf(head).length,
    "damaged",
    "the frame's qps are not those of all tensors",
  );
  const same = frame.cameras?.every((each, i) => each.name === head.cameras[i]?.name) ?? true;
  need(
    same && (frame.cameras?.length ?? head.cameras.length) === head.cameras.length,
    "damaged",
    "the frame's cameras are not those of the header",
  );
  return [frame, payload.subarray(size)];
}
