/** FORMAT.md "Record": the framing of everything in a file. */

import { need } from "../errors";
import { MAX_HEADER, MAX_PAYLOAD } from "../limits";
import { crc32 } from "./crc";

export const MAGIC = Uint8Array.of(0x89, 0x49, 0x4e, 0x56, 0x0d, 0x0a, 0x1a, 0x0a);
export const SYNC = Uint8Array.of(0xb5, 0x49, 0x4e, 0x56);
export const HEADER_BYTES = 24;
/** Bytes of a record besides its payload. */
export const FRAMING_BYTES = 28;

export const HEAD = 1;
export const KEY = 2;
export const DELTA = 3;
export const INDEX = 4;
export const END = 5;

export interface RecordHeader {
  type: number;
  frame: bigint;
  /** Where the record begins in the file, and its size with its framing, in bytes. */
  offset: number;
  size: number;
  /** Bits that must be 0. */
  reserved: number;
}

export function isFrame(header: RecordHeader): boolean {
  return header.type === KEY || header.type === DELTA;
}

export function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/** Whether the data have these bytes at a place. */
export function hasAt(data: Uint8Array, at: number, bytes: Uint8Array): boolean {
  return bytes.every((byte, i) => data[at + i] === byte);
}

/** The header at a place in the data, or null if it is not sound; `offset` is that of the data in the file. */
export function soundHeader(data: Uint8Array, at: number, offset: number): RecordHeader | null {
  if (at + HEADER_BYTES > data.length || !hasAt(data, at, SYNC)) return null;
  const view = viewOf(data);
  if (crc32(data.subarray(at, at + 20)) !== view.getUint32(at + 20, true)) return null;
  return {
    type: data[at + 4]!,
    frame: view.getBigInt64(at + 8, true),
    offset: offset + at,
    size: view.getUint32(at + 16, true) + FRAMING_BYTES,
    reserved: (data[at + 5]! & 15) | view.getUint16(at + 6, true),
  };
}

/**
 * Refuse a sound header that is not allowed, since nobody knows what would be missed.
 *
 * @throws InvError limit, unsupported
 */
export function checkAllowed({ type, offset, size, reserved }: RecordHeader): void {
  const limit = type === HEAD ? MAX_HEADER : MAX_PAYLOAD;
  const length = size - FRAMING_BYTES;
  need(length <= limit, "limit", `the record at byte ${offset} has ${length} bytes, more than ${limit}`);
  need(reserved === 0, "unsupported", `the record at byte ${offset} has flags of a later draft`);
  need((type >= HEAD && type <= END) || type >= 128, "unsupported", `the record at byte ${offset} has type ${type}`);
}

/** The payload of a whole record, or null if it fails its checksum. */
export function payloadOf(record: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | null {
  const payload = record.subarray(HEADER_BYTES, record.length - 4);
  return crc32(payload) === viewOf(record).getUint32(record.length - 4, true) ? payload : null;
}
