/** FORMAT.md "INDEX and END". */

import { need } from "../errors";
import { MAX_INDEX } from "../limits";
import { decompress } from "./compressed";
import { FRAMING_BYTES, viewOf } from "./records";

/** Rows of an INDEX of level 0 at most; all but the last have as many. */
export const PAGE = 1024;
const ROW_BYTES = 29;
const MAX_TICKS = 2 ** 53;
const MAX_TOP_ROWS = MAX_INDEX / ROW_BYTES;

/** A frame record, or, of an INDEX of level 1, an INDEX record of level 0. */
export interface Row {
  number: bigint;
  ticks: number;
  /** Where the record begins in the file, and its size with its framing, in bytes. */
  offset: number;
  size: number;
  isKey: boolean;
  hasCameras: boolean;
}

export interface Index {
  level: 0 | 1;
  rows: Row[];
}

/**
 * Parse the payload of INDEX.
 *
 * @throws InvError damaged or limit; such an index is ignored
 */
export async function parseIndex(payload: Uint8Array<ArrayBuffer>): Promise<Index> {
  const level = payload[0];
  need(level === 0 || level === 1, "damaged", "the index has no level");
  need(payload.length <= MAX_INDEX, "limit", `the index has ${payload.length} bytes, more than ${MAX_INDEX}`);
  const data = await decompress(payload.subarray(1), "the index", MAX_INDEX);
  const count = data.length / ROW_BYTES;
  const fits = level === 0 ? count <= PAGE : count >= 2 && count <= MAX_TOP_ROWS;
  need(Number.isInteger(count) && fits, "damaged", "the index does not consist of rows");
  const view = viewOf(data);
  const rows: Row[] = [];
  let number = 0n;
  let ticks = 0n;
  let end = 0n;
  for (let i = 0; i < count; i++) {
    const before = rows.at(-1);
    number = BigInt.asIntN(64, number + view.getBigInt64(8 * i, true));
    ticks = BigInt.asIntN(64, ticks + view.getBigInt64(8 * (count + i), true));
    const gap = view.getBigInt64(8 * (2 * count + i), true);
    const offset = end + gap;
    const size = view.getUint32(24 * count + 4 * i, true);
    const flags = view.getUint8(28 * count + i);
    end = offset + BigInt(size);
    need(
      gap >= 0n && end <= BigInt(Number.MAX_SAFE_INTEGER) && size >= FRAMING_BYTES,
      "damaged",
      "the index lists records that overlap, or too short ones",
    );
    const later = !before || (number > before.number && ticks > before.ticks);
    need(later && ticks >= -MAX_TICKS && ticks <= MAX_TICKS, "damaged", "the index is out of order");
    const row = { number, ticks: Number(ticks), offset: Number(offset), size };
    rows.push({ ...row, isKey: (flags & 1) !== 0, hasCameras: (flags & 2) !== 0 });
  }
  return { level, rows };
}

export function sameRows(a: Row[], b: Row[]): boolean {
  return (
    a.length === b.length &&
    a.every((row, i) => (Object.keys(row) as (keyof Row)[]).every((field) => row[field] === b[i]![field]))
  );
}

/** The row of an INDEX of level 1 for the INDEX record of level 0 that has these rows. */
export function rowOf(rows: Row[], offset: number, size: number): Row {
  return {
    number: rows[0]?.number ?? 0n,
    ticks: rows[0]?.ticks ?? 0,
    offset,
    size,
    isKey: rows.some((row) => row.isKey),
    hasCameras: rows.some((row) => row.hasCameras),
  };
}

/** The payload of END. */
export interface EndMark {
  /** Offset of the last INDEX record. */
  index: number;
  /** Whether everything that was to be encoded is in the file. */
  complete: boolean;
}

/** Size of the END record. */
export const END_BYTES = FRAMING_BYTES + 12;

/** @throws InvError damaged */
export function parseEnd(payload: Uint8Array): EndMark {
  need(payload.length === 12, "damaged", "the end mark is damaged");
  const view = viewOf(payload);
  return { index: Number(view.getBigUint64(0, true)), complete: (view.getUint32(8, true) & 1) !== 0 };
}

/** Position of the last row whose number is at most this; -1 if there is none. */
export function placeOf(rows: Row[], number: bigint): number {
  return lastWhere(rows.length, (i) => rows[i]!.number <= number);
}

/** The last of `count` positions for which a condition holds that holds up to some position; -1 if there is none. */
export function lastWhere(count: number, holds: (position: number) => boolean): number {
  let low = -1;
  let high = count;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (holds(middle)) low = middle;
    else high = middle;
  }
  return low;
}
