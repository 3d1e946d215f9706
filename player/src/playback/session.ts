/** Opens one file and decodes its frames: what runs in the worker. */

import { step } from "../coding/lattice";
import { DIRTY, type TensorState } from "../coding/state";
import { Catalogue, type Found, type Status } from "../container/catalogue";
import { type Camera, type Head, parseHead } from "../container/head";
import { lastWhere, placeOf, type Row } from "../container/index";
import { InvError, need, ofMemory, Replaced } from "../errors";
import { rolesOf } from "../field/roles";
import { connections, growing, indexOf } from "../source/follow";
import { openUrl } from "../source/http";
import { BlobSource, isStream, piecesOf, type Source, type Traffic } from "../source/source";
import { Chain } from "./chain";
import type { Answer, Patch, Request } from "./messages";
import { HeldRecords } from "./records";
import { frameIn, MAX_LISTED, pagesOf, readIndex } from "./timeline";

/** Bytes to read at once on the way to a frame, and ahead of the one that is shown. */
const READ = 2 ** 22;
const AHEAD = 2 ** 19;
/** Milliseconds between two messages about the buffer. */
const BUFFER_INTERVAL = 100;

/** The offset of a record that was received, of which is not known yet where in the file it is. */
const UNPLACED = -1;

/** What pieces are of: of a file as it is, of one that grows, or of a stream with some frames of one that grows. */
type Pieces = "file" | "growing" | "stream";

export class Session {
  private headPayload: Uint8Array | null = null;
  private head: Head | null = null;
  private readonly rows: Row[] = [];
  /** Positions of frames that change the cameras. */
  private readonly cameraChanges: number[] = [];
  private readonly held = new HeldRecords();
  private traffic: Traffic = { requests: 0, bytes: 0 };
  /** Where records that are not held can be read. */
  private source: Source | null = null;
  /** Of a file that is followed: the frames so far, as its server lists them now. */
  private listed: (() => Promise<Row[]>) | null = null;
  /** The same as listed when the stream began, until that has come to its first frame. */
  private before: Row[] | null = null;
  private chain: Chain | null = null;
  private wanted: { id: number; position: number } | null = null;
  private isBusy = false;
  private isTelling = false;
  /** What is being read ahead: one piece at a time, so that what is wanted next does not wait for more than that. */
  private reading: Promise<void> | null = null;

  /** `tell` sends to the page; the buffers in `moved` are its own from then on. */
  constructor(private readonly tell: (answer: Answer, moved?: ArrayBuffer[]) => void) {}

  /** Do what the page asks for; errors are told. */
  async take(message: Request): Promise<void> {
    try {
      if (message.do === "open") await this.open(message.from, message.follow);
      else {
        this.wanted = message;
        if (!this.isBusy) await this.serve();
      }
    } catch (error) {
      this.fail(null, error);
    }
  }

  private fail(id: number | null, thrown: unknown): void {
    const error = ofMemory(thrown);
    if (!(error instanceof InvError)) throw error;
    this.tell({ tell: "failed", id, kind: error.kind, message: error.message });
  }

  private async open(from: string | Blob, follow: boolean): Promise<void> {
    if (typeof from === "string" && follow) return this.follow(from);
    const source = typeof from === "string" ? await openUrl(from) : new BlobSource(from);
    this.traffic = source.traffic;
    if (isStream(source)) return this.readAll(source.pieces());
    this.source = source;
    const indexed = await readIndex(source);
    if (!indexed) return this.readAll(piecesOf(source));
    await this.begin(indexed);
    this.list(indexed.rows);
    this.end(indexed.complete ? "complete" : "incomplete", 0, []);
  }

  /** Read a file from its beginning to its end; frames can be decoded while it arrives. */
  private async readAll(pieces: AsyncIterable<Uint8Array>): Promise<void> {
    const catalogue = new Catalogue();
    await this.read(catalogue, pieces, "file");
    await this.arrive(catalogue, catalogue.finish(), "file");
    this.end(catalogue.status, catalogue.lost.size, catalogue.problems);
  }

  private async read(catalogue: Catalogue, pieces: AsyncIterable<Uint8Array>, what: Pieces): Promise<void> {
    for await (const piece of pieces) {
      await this.arrive(catalogue, catalogue.feed(piece), what);
      if (what !== "file" && catalogue.hasEnd) return;
    }
  }

  private async arrive(catalogue: Catalogue, found: AsyncIterable<Found>, what: Pieces): Promise<void> {
    const rows: Row[] = [];
    for await (const { row, data } of found) {
      await this.begin(catalogue);
      const last = rows.at(-1) ?? this.rows.at(-1);
      if (last && row.number <= last.number) {
        // Each connection begins with frames that are known.
        const position = placeOf(this.rows, row.number);
        if (this.rows[position]?.number === row.number) this.held.set(position, data);
        continue;
      }
      const missed = (each: Row) => (!last || each.number > last.number) && each.number < row.number;
      rows.push(...(this.before ?? []).filter(missed));
      this.before = null;
      this.held.set(this.rows.length + rows.length, data);
      rows.push(what === "stream" ? { ...row, offset: UNPLACED } : row);
    }
    await this.begin(catalogue);
    this.list(rows);
  }

  /** Follow a file while it is written, through lost connections, until its end. */
  private async follow(url: string): Promise<void> {
    this.source = growing(url, this.traffic);
    this.listed = async () => pagesOf(await indexOf(url, this.traffic));
    const told = (isLost: boolean) => this.tell({ tell: "connection", isLost });
    try {
      for await (const { index, pieces } of connections(url, this.traffic, told)) {
        const catalogue = new Catalogue();
        try {
          this.before = index && (await pagesOf(index));
          await this.read(catalogue, pieces, index ? "stream" : "growing");
        } catch (error) {
          if (!(error instanceof InvError) || error.kind !== "network") throw error;
        }
        if (catalogue.hasEnd) return this.end(catalogue.status, 0, catalogue.problems);
      }
    } catch (error) {
      if (!(error instanceof Replaced)) throw error;
      this.tell({ tell: "replaced" });
    }
  }

  private async begin({ headPayload }: { headPayload: Uint8Array<ArrayBuffer> | null }): Promise<void> {
    if (!headPayload || headPayload === this.headPayload) return;
    if (this.headPayload && !sameBytes(headPayload, this.headPayload)) throw new Replaced();
    this.headPayload = headPayload;
    if (!this.head) {
      this.head = await parseHead(headPayload);
      rolesOf(this.head);
      this.chain = new Chain(this.head, this.rows, (position, last) => this.load(position, last));
      this.tell({ tell: "head", payload: headPayload });
    }
    if (this.before) this.compare(this.before);
  }

  /**
   * Take from a list of all frames so far where those in the file are that came in a stream.
   *
   * @throws Replaced it is not the list of this file
   */
  private compare(listed: Row[]): void {
    let place = 0;
    for (const row of this.rows) {
      while (place < listed.length && listed[place]!.number < row.number) place++;
      const { number, ticks, size, offset } = listed[place] ?? {};
      if (number !== row.number || ticks !== row.ticks || size !== row.size) throw new Replaced();
      row.offset = offset!;
    }
  }

  private list(rows: Row[]): void {
    if (!rows.length) return;
    need(this.rows.length + rows.length <= MAX_LISTED, "limit", `the file has more than ${MAX_LISTED} frames`);
    const [seconds, base] = this.head!.timeBase;
    for (const row of rows) {
      if (row.hasCameras) this.cameraChanges.push(this.rows.length);
      this.rows.push(row);
    }
    const entries = rows.map(({ number, ticks, isKey, size }) => {
      return { number: Number(number), time: (ticks * seconds) / base, isKey, size };
    });
    this.tell({ tell: "entries", entries });
    this.tellBuffer();
  }

  private end(status: Status, lost: number, problems: string[]): void {
    this.tell({ tell: "end", status, lost, problems });
    this.tellBuffer();
  }

  /** Tell what is buffered, a few times a second at most. */
  private tellBuffer(): void {
    if (this.isTelling) return;
    this.isTelling = true;
    setTimeout(() => {
      this.isTelling = false;
      this.tell({ tell: "buffer", ranges: this.held.ranges(this.rows.length), traffic: { ...this.traffic } });
    }, BUFFER_INTERVAL);
  }

  private async serve(): Promise<void> {
    this.isBusy = true;
    try {
      while (this.wanted) {
        const { id, position } = this.wanted;
        try {
          await this.decode(id, position);
        } catch (error) {
          this.fail(id, error);
        }
        if (this.wanted?.id === id) this.wanted = null;
      }
    } finally {
      this.isBusy = false;
    }
  }

  private async decode(id: number, position: number): Promise<void> {
    need(this.chain !== null && position in this.rows, "usage", `there is no frame at position ${position}`);
    const isReached = await this.chain.seek(position, async () => {
      await turn();
      return this.wanted?.id !== id;
    });
    if (!isReached) return;
    const { decoding, frame } = this.chain;
    const { stats } = frame!;
    const cameras = await this.camerasAt(position);
    const patches = this.patches();
    const moved = patches.map(({ values }) => values.buffer);
    const traffic = { ...this.traffic };
    this.tell({ tell: "frame", id, position, stats, decoding, cameras, patches, traffic }, moved);
    this.readAhead(position + 1);
  }

  /** The cameras in effect at a frame. */
  private async camerasAt(position: number): Promise<Camera[]> {
    const change = this.cameraChanges[lastWhere(this.cameraChanges.length, (i) => this.cameraChanges[i]! <= position)];
    if (change === undefined) return this.head!.cameras;
    const [frame] = await this.load(change, change);
    return frame.cameras ?? this.head!.cameras;
  }

  private async load(position: number, last: number) {
    if (!this.held.get(position)) await this.reading;
    if (!this.held.get(position)) await this.fetch(position, last, READ);
    const record = this.held.get(position);
    need(record !== undefined, "network", "it was received too long ago and is not held any more");
    return frameIn(this.head!, this.rows, position, record);
  }

  /** Begin to read what playback will need, unless there is enough or something is being read. */
  private readAhead(first: number): void {
    if (this.reading) return;
    let missing = first;
    while (missing < this.rows.length && this.held.get(missing)) missing++;
    if (missing === this.rows.length || this.rows[missing]!.offset - this.rows[first]!.offset > AHEAD / 2) return;
    this.reading = this.fetch(missing, this.rows.length - 1, AHEAD)
      // What cannot be read now is missed when it is needed.
      .catch(() => {})
      .finally(() => {
        this.reading = null;
      });
  }

  /** Read the records from one position to another that fit into `limit` bytes, but at least one, with one request. */
  private async fetch(first: number, last: number, limit: number): Promise<void> {
    if (!this.source) return;
    const { rows } = this;
    if (rows[first]!.offset === UNPLACED && this.listed) this.compare(await this.listed());
    const from = rows[first]!.offset;
    let count = 1;
    const end = (position: number) => rows[position]!.offset + rows[position]!.size;
    const fits = (next: number) => rows[next]!.offset !== UNPLACED && end(next) - from <= limit && !this.held.get(next);
    while (first + count <= last && fits(first + count)) count++;
    const data = await this.source.read(from, end(first + count - 1));
    for (let i = first; i < first + count; i++) {
      this.held.set(i, data.slice(rows[i]!.offset - from, end(i) - from));
    }
    this.tellBuffer();
  }

  /** The weights that changed since they were told last. */
  private patches(): Patch[] {
    const patches: Patch[] = [];
    let index = 0;
    this.head!.networks.forEach(({ tensors }, network) => {
      for (const { name } of tensors) {
        const tensor = this.chain!.state.tensors[index++]!;
        const ranges = takeDirty(tensor);
        if (ranges.length) patches.push({ network, tensor: name, ranges, values: weights(tensor, ranges) });
      }
    });
    return patches;
  }
}

/** Ranges [from, to) of values that may have changed since the last call. */
function takeDirty({ dirty, values }: TensorState): [number, number][] {
  const ranges: [number, number][] = [];
  for (let mark = dirty.indexOf(1); mark >= 0; mark = dirty.indexOf(1, mark)) {
    const clean = dirty.indexOf(0, mark);
    const next = clean < 0 ? dirty.length : clean;
    ranges.push([mark * DIRTY, Math.min(next * DIRTY, values.length)]);
    mark = next;
  }
  dirty.fill(0);
  return ranges;
}

/** FORMAT.md "Lattice": the weights in some ranges, one after the other. */
function weights({ values, qp }: TensorState, ranges: [number, number][]): Float32Array<ArrayBuffer> {
  const result = new Float32Array(ranges.reduce((sum, [from, to]) => sum + to - from, 0));
  const unit = step(qp);
  let at = 0;
  for (const [from, to] of ranges) for (let i = from; i < to; i++) result[at++] = values[i]! * unit;
  return result;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Let messages that have come be taken. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
