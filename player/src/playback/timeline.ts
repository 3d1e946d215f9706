/** Which frames a file has, by its index, and their records. */

import { type FrameHead, parseFrame } from "../container/frame";
import type { Head } from "../container/head";
import { END_BYTES, PAGE, parseEnd, parseIndex, type Row, rowOf, sameRows } from "../container/index";
import {
  checkAllowed,
  DELTA,
  END,
  FRAMING_BYTES,
  HEAD,
  HEADER_BYTES,
  hasAt,
  INDEX,
  KEY,
  MAGIC,
  payloadOf,
  type RecordHeader,
  soundHeader,
} from "../container/records";
import { InvError, need } from "../errors";
import type { Source } from "../source/source";

/** Frames that a player lists: ten hours at 30 a second. */
export const MAX_LISTED = 2 ** 20;
/** What is read at once of the end of a file: END, and the index of some thousand frames. */
const TAIL = 2 ** 16;

/** The header and the payload of the record at the beginning of the data, or null. */
function recordIn(
  data: Uint8Array<ArrayBuffer>,
  offset: number,
): { header: RecordHeader; payload: Uint8Array<ArrayBuffer> } | null {
  const header = soundHeader(data, 0, offset);
  if (!header) return null;
  checkAllowed(header);
  if (header.size > data.length) return null;
  const payload = payloadOf(data.subarray(0, header.size));
  return payload && { header, payload };
}

/** A file with an index that fits. */
export interface Indexed {
  /** The payload of HEAD. */
  headPayload: Uint8Array<ArrayBuffer>;
  rows: Row[];
  complete: boolean;
}

/**
 * Read header and index of a file; null if it has no index that fits, and must be read from beginning to end.
 *
 * @throws InvError the file is refused
 */
export async function readIndex(source: Source): Promise<Indexed | null> {
  const start = MAGIC.length + HEADER_BYTES;
  if (source.size < start + END_BYTES) return null;
  const front = await source.read(0, start);
  const first = soundHeader(front, MAGIC.length, 0);
  if (!hasAt(front, 0, MAGIC) || first?.type !== HEAD) return null;
  checkAllowed(first);
  if (MAGIC.length + first.size > source.size) return null;
  const headPayload = recordIn(await source.read(MAGIC.length, MAGIC.length + first.size), MAGIC.length)?.payload;
  if (!headPayload) return null;

  const tail = await source.read(Math.max(0, source.size - TAIL), source.size);
  const end = recordIn(tail.slice(-END_BYTES), source.size - END_BYTES);
  if (end?.header.type !== END) return null;
  try {
    const mark = parseEnd(end.payload);
    const read = async (from: number, to: number) => {
      const before = source.size - tail.length;
      return from >= before ? tail.slice(from - before, to - before) : source.read(from, to);
    };
    const rows = await rowsOf(read, mark.index, source.size - END_BYTES);
    const last = rows.at(-1);
    const fits = !last || (rows[0]!.isKey && rows[0]!.offset >= MAGIC.length + first.size);
    return fits ? { headPayload, rows, complete: mark.complete } : null;
  } catch (error) {
    // An index that is damaged or does not fit is ignored.
    if (error instanceof InvError && error.kind !== "network") return null;
    throw error;
  }
}

/**
 * The rows of INDEX records of level 0, one after the other.
 *
 * @throws InvError damaged, limit, network: they are none
 */
export async function pagesOf(data: Uint8Array<ArrayBuffer>): Promise<Row[]> {
  const rows: Row[] = [];
  for (let at = 0; at < data.length; ) {
    const { index, size } = await readPage(async (from, to) => data.subarray(from, to), at, data.length);
    const last = rows.at(-1);
    const first = index.rows[0];
    const fits = index.level === 0 && (!last || (first && first.number > last.number && first.ticks > last.ticks));
    need(fits, "damaged", "the server's list of frames is out of order");
    for (const row of index.rows) rows.push(row);
    need(rows.length <= MAX_LISTED, "limit", `the file has more than ${MAX_LISTED} frames`);
    at += size;
  }
  return rows;
}

/** The rows of all INDEX records of level 0, of which the last record at `offset` tells. */
async function rowsOf(
  read: (from: number, to: number) => Promise<Uint8Array<ArrayBuffer>>,
  offset: number,
  end: number,
): Promise<Row[]> {
  need(offset >= MAGIC.length && offset <= end - FRAMING_BYTES, "damaged", "the end mark points elsewhere");
  const { index, size } = await readPage(read, offset, end);
  need(size === end - offset, "damaged", "the end mark points elsewhere");
  if (index.level === 0) {
    need((index.rows.at(-1)?.offset ?? 0) + (index.rows.at(-1)?.size ?? 0) <= offset, "damaged", "no such records");
    return index.rows;
  }
  need(index.rows.length <= MAX_LISTED / PAGE, "limit", `the file has more than ${MAX_LISTED} frames`);
  const begin = index.rows[0]!.offset;
  const pages = await read(begin, offset);
  const held = async (from: number, to: number) => pages.slice(from - begin, to - begin);
  const rows: Row[] = [];
  for (const row of index.rows) {
    const page = await readPage(held, row.offset, row.offset + row.size);
    const isLast = row === index.rows.at(-1);
    const before = rows.at(-1);
    const after = page.index.rows[0];
    const fits =
      page.index.level === 0 &&
      after !== undefined &&
      (isLast || page.index.rows.length === PAGE) &&
      (!before || (after.number > before.number && after.ticks > before.ticks)) &&
      (!before || after.offset >= before.offset + before.size) &&
      sameRows([rowOf(page.index.rows, row.offset, page.size)], [row]);
    need(fits, "damaged", "an index does not fit the one of level 1");
    for (const each of page.index.rows) rows.push(each);
  }
  need(rows.at(-1)!.offset + rows.at(-1)!.size <= begin, "damaged", "no such records");
  return rows;
}

async function readPage(
  read: (from: number, to: number) => Promise<Uint8Array<ArrayBuffer>>,
  from: number,
  to: number,
) {
  const record = recordIn(await read(from, to), from);
  need(record?.header.type === INDEX, "damaged", "there is no index where it should be");
  return { index: await parseIndex(record.payload), size: record.header.size };
}

/**
 * Parse the record of the frame at a position, given its bytes.
 *
 * @throws InvError damaged: it is not what the rows say; limit
 */
export function frameIn(
  head: Head,
  rows: Row[],
  position: number,
  data: Uint8Array<ArrayBuffer>,
): [FrameHead, Uint8Array] {
  const row = rows[position]!;
  const record = recordIn(data, row.offset);
  need(record !== null, "damaged", "its record is not sound");
  const { type, frame: number, size } = record.header;
  const fits = number === row.number && size === row.size && type === (row.isKey ? KEY : DELTA);
  need(fits, "damaged", "its record is not the one that the index lists");
  const [frame, coded] = parseFrame(head, row.isKey, record.payload);
  const follows = row.isKey || frame.reference === rows[position - 1]!.number;
  need(follows, "damaged", `it changes frame ${frame.reference}, which is not the one before it`);
  need(frame.ticks === row.ticks, "damaged", "its time is not the one that the index lists");
  return [frame, coded];
}
