/** FORMAT.md "Order of records" and "Recovery": what a file holds, told by all its records in order. */

import { InvError, need } from "../errors";
import { MAX_FRAMES } from "../limits";
import { type FrameHead, parseFrame } from "./frame";
import { type Head, parseHead } from "./head";
import { type EndMark, PAGE, parseEnd, parseIndex, placeOf, type Row, rowOf, sameRows } from "./index";
import { DELTA, END, HEAD, INDEX, isFrame, KEY, MAGIC, type RecordHeader } from "./records";
import { type Listener, type Record, Scanner } from "./scan";

export type Status = "complete" | "incomplete" | "open" | "truncated" | "damaged";

/** Problems to list; a hostile file could have millions. */
const LISTED = 100;

/** A good frame, with what its record holds. */
export interface Found {
  row: Row;
  /** The whole record. */
  data: Uint8Array<ArrayBuffer>;
  frame: FrameHead;
  coded: Uint8Array;
}

/** Goes through a file from its first byte on; `feed` it, then `finish`. */
export class Catalogue implements Listener {
  /** null: no sound copy was found yet. */
  head: Head | null = null;
  headPayload: Uint8Array<ArrayBuffer> | null = null;
  /** All good frames, in order. */
  readonly rows: Row[] = [];
  /** Numbers of the frames that are not. */
  readonly lost = new Set<bigint>();
  /** A line each, the first hundred. */
  readonly problems: string[] = [];

  private readonly scanner = new Scanner(this);
  private damaged = false;
  /** Records that came before a sound header. */
  private early: Record[] = [];
  /** The frame record before, if it is good. */
  private before: Row | null = null;
  private readonly pages: Row[] = [];
  private lastIndex: RecordHeader | null = null;
  private level: 0 | 1 = 0;
  /** End of the last record that an INDEX listed as lost. */
  private listed = 0;
  private end: EndMark | null = null;

  /** `listen` is called with the header of each record, if that is sound. */
  constructor(private readonly listen: (header: RecordHeader) => void = () => {}) {}

  /** Final once `finish` was called. */
  get status(): Status {
    if (this.damaged) return "damaged";
    if (this.scanner.cutOff) return "truncated";
    if (!this.end) return "open";
    return this.end.complete ? "complete" : "incomplete";
  }

  /** Whether the file ends here. */
  get hasEnd(): boolean {
    return this.end !== null;
  }

  problem(line: string): void {
    this.damaged = true;
    if (this.problems.length < LISTED) this.problems.push(line);
    else if (this.problems.length === LISTED) this.problems.push("there are more problems, which are not listed");
  }

  /**
   * Take the next bytes of the file, and give the good frames that they complete.
   *
   * @throws InvError the file is refused
   */
  async *feed(data: Uint8Array): AsyncGenerator<Found> {
    for (const record of this.scanner.feed(data)) yield* this.take(record);
  }

  /**
   * Take note that there are no more bytes.
   *
   * @throws InvError as `feed`; damaged: there is no sound header
   */
  async *finish(): AsyncGenerator<Found> {
    for (const record of this.scanner.finish()) yield* this.take(record);
    need(this.head !== null, "damaged", "no sound header in the file; nothing can be recovered");
    const { cutOff } = this.scanner;
    if (cutOff && cutOff !== "framing" && isFrame(cutOff)) this.lost.add(cutOff.frame);
    this.checkEnd();
  }

  private async *take(record: Record): AsyncGenerator<Found> {
    const { header, payload } = record;
    this.listen(header);
    if (this.end) {
      this.problem(`the end mark before byte ${header.offset} is not the last record`);
      this.end = null;
    }
    if (header.offset === MAGIC.length && header.type !== HEAD) this.problem("the first record is not a header");
    if (!payload) this.problem(`the record at byte ${header.offset} fails its checksum`);
    if (header.type === HEAD && payload) await this.takeHead(header, payload);
    if (!this.head) {
      this.early.push(record);
      return;
    }
    for (const each of [...this.early.splice(0), record]) {
      const found = await this.interpret(each);
      if (found) yield found;
    }
  }

  private async takeHead(header: RecordHeader, payload: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.headPayload) {
      this.head = await parseHead(payload);
      this.headPayload = payload;
    } else if (this.headPayload.length !== payload.length || this.headPayload.some((byte, i) => byte !== payload[i])) {
      this.problem(`the header at byte ${header.offset} differs from the first one`);
    }
  }

  private async interpret(record: Record): Promise<Found | null> {
    const { header, payload } = record;
    if (this.lastIndex && header.type !== INDEX && header.type !== END) {
      this.problem(`a record follows the index, at byte ${header.offset}`);
    }
    if (isFrame(header)) return this.takeFrame(record);
    if (header.type === INDEX) {
      if (payload) await this.takeIndex(header, payload);
      this.lastIndex = header;
    }
    if (header.type === END && payload) this.takeEnd(header, payload);
    return null;
  }

  private takeFrame({ header, data, payload }: Record): Found | null {
    const before = this.before;
    const last = this.rows.at(-1);
    this.before = null;
    try {
      need(payload !== null, "damaged", "its record is not sound");
      const [frame, coded] = parseFrame(this.head!, header.type === KEY, payload);
      const { type, frame: number, offset, size } = header;
      const row = { number, ticks: frame.ticks, offset, size, isKey: type === KEY, hasCameras: frame.cameras !== null };
      const later = !last || (number > last.number && row.ticks > last.ticks);
      need(later, "damaged", "it is not later than the one before");
      const follows = type !== DELTA || (before !== null && frame.reference === before.number);
      need(follows, "damaged", `it changes frame ${frame.reference}, which is not the one before it or is lost`);
      need(this.rows.length < MAX_FRAMES, "limit", `the file has more than ${MAX_FRAMES} frames`);
      this.before = row;
      this.rows.push(row);
      return { row, data, frame, coded };
    } catch (error) {
      if (!(error instanceof InvError) || error.kind !== "damaged") throw error;
      this.lost.add(header.frame);
      this.problem(`frame ${header.frame}: ${error.message}`);
      return null;
    }
  }

  private async takeIndex(header: RecordHeader, payload: Uint8Array<ArrayBuffer>): Promise<void> {
    const page = this.pages.length;
    try {
      const { level, rows } = await parseIndex(payload);
      if (this.damaged) {
        if (level === 0) this.loseListed(header, rows);
        return;
      }
      this.level = level;
      const wanted = level === 0 ? this.rows.slice(PAGE * page, PAGE * (page + 1)) : this.pages;
      need(sameRows(rows, wanted), "damaged", "the index does not fit the frames");
      if (level === 0) this.pages.push(rowOf(rows, header.offset, header.size));
    } catch (error) {
      if (!(error instanceof InvError)) throw error;
      this.problem(error.message);
    }
  }

  /** Of a damaged file: frames that only the index lists are lost. */
  private loseListed(header: RecordHeader, rows: Row[]): void {
    const last = rows.at(-1);
    if (!last || rows[0]!.offset < this.listed || last.offset + last.size > header.offset) return;
    this.listed = last.offset + last.size;
    for (const { number } of rows) if (this.rows[placeOf(this.rows, number)]?.number !== number) this.lost.add(number);
  }

  private takeEnd(header: RecordHeader, payload: Uint8Array): void {
    try {
      this.end = parseEnd(payload);
    } catch (error) {
      if (!(error instanceof InvError)) throw error;
      this.problem(error.message);
      return;
    }
    const index = this.lastIndex;
    const points = index && this.end.index === index.offset && index.offset + index.size === header.offset;
    if (!points) this.problem("the end mark does not point to the index before it");
  }

  private checkEnd(): void {
    if (!this.end || this.damaged) return;
    const pages = Math.max(1, Math.ceil(this.rows.length / PAGE));
    if (this.pages.length !== pages || this.level !== (pages > 1 ? 1 : 0)) this.problem("the index is not complete");
  }
}
