/** FORMAT.md "Record" and "Recovery": records out of bytes that arrive one after the other, with damage between them. */

import { need } from "../errors";
import {
  checkAllowed,
  HEAD,
  HEADER_BYTES,
  hasAt,
  MAGIC,
  payloadOf,
  type RecordHeader,
  SYNC,
  soundHeader,
} from "./records";

export interface Record {
  header: RecordHeader;
  /** The whole record. */
  data: Uint8Array<ArrayBuffer>;
  /** null: it fails its checksum. */
  payload: Uint8Array<ArrayBuffer> | null;
}

/** What a scanner has to say besides records. */
export interface Listener {
  problem(line: string): void;
}

/** Finds records in bytes that are fed to it; holds at most one record, besides what was fed last. */
export class Scanner {
  /** Whether the file ends inside a record; known once `finish` has been called. */
  cutOff: RecordHeader | "framing" | null = null;
  private buffer: Uint8Array<ArrayBuffer> = new Uint8Array(2 ** 16);
  private start = 0;
  private end = 0;
  /** Of `buffer[0]` in the file. */
  private offset = 0;
  private begun = false;
  private searching = false;

  constructor(private readonly listener: Listener) {}

  /**
   * Take the next bytes, and give every record that they complete.
   *
   * @throws InvError usage: not an .inv file; unsupported, limit: a record that may not be skipped
   */
  *feed(data: Uint8Array): Generator<Record> {
    this.append(data);
    if (!this.begun && this.end - this.start < MAGIC.length + HEADER_BYTES) return;
    this.begin();
    yield* this.records();
  }

  /**
   * Take note that there are no more bytes.
   *
   * @throws InvError as `feed`
   */
  *finish(): Generator<Record> {
    this.begin();
    yield* this.records();
    while (this.start < this.end) {
      if (this.searching) return;
      const rest = this.buffer.subarray(this.start, this.end);
      const header = this.header(this.start);
      if (header === null && rest.length < HEADER_BYTES && hasAt(SYNC, 0, rest.subarray(0, SYNC.length))) {
        this.cutOff = "framing";
        return;
      }
      if (header !== null && !this.isSound(this.nextSync(this.start + 1))) {
        this.cutOff = header;
        return;
      }
      // What looks like a record that extends past the end hides others.
      this.skip();
      yield* this.records();
    }
  }

  private append(data: Uint8Array): void {
    if (this.end + data.length > this.buffer.length) {
      const kept = this.buffer.subarray(this.start, this.end);
      const size = kept.length + data.length;
      const target = size > this.buffer.length / 2 ? new Uint8Array(2 * size) : this.buffer;
      target.set(kept);
      this.offset += this.start;
      this.buffer = target;
      this.start = 0;
      this.end = kept.length;
    }
    this.buffer.set(data, this.end);
    this.end += data.length;
  }

  private begin(): void {
    if (this.begun) return;
    this.begun = true;
    const magic = this.buffer.subarray(0, Math.min(this.end, MAGIC.length));
    if (magic.length < MAGIC.length || !hasAt(magic, 0, MAGIC)) {
      need(magic.length > 0, "usage", "the file is empty");
      const isHead = this.header(MAGIC.length)?.type === HEAD;
      need(isHead, "usage", "not an .inv file: its first bytes are not the .inv magic");
      this.listener.problem("the magic, the first bytes of the file, is damaged");
    }
    this.start = MAGIC.length;
  }

  private header(at: number): RecordHeader | null {
    return soundHeader(this.buffer.subarray(0, this.end), at, this.offset);
  }

  private isSound(at: number): boolean {
    return at + HEADER_BYTES <= this.end;
  }

  /** All records that the buffer holds in full. */
  private *records(): Generator<Record> {
    while (true) {
      if (this.searching) {
        this.start = this.nextSync(this.start);
        this.searching = !this.isSound(this.start);
      }
      if (this.searching || this.end - this.start < HEADER_BYTES) return;
      const header = this.header(this.start);
      if (header === null) {
        this.skip();
        continue;
      }
      checkAllowed(header);
      if (this.end - this.start < header.size) return;
      const data = this.buffer.slice(this.start, this.start + header.size);
      this.start += header.size;
      yield { header, data, payload: payloadOf(data) };
    }
  }

  private skip(): void {
    this.listener.problem(`there is no record at byte ${this.offset + this.start}`);
    this.start++;
    this.searching = true;
  }

  /** Where from a place on there is a sound header, or else where one may begin whose end has not arrived. */
  private nextSync(from: number): number {
    const data = this.buffer.subarray(0, this.end);
    for (let at = from; ; at++) {
      at = data.indexOf(SYNC[0]!, at);
      if (at < 0) return this.end;
      if (at + HEADER_BYTES > this.end) {
        if (hasAt(SYNC, 0, data.subarray(at, at + SYNC.length))) return at;
      } else if (soundHeader(data, at, this.offset)) return at;
    }
  }
}
