/** The page's side: a video whose frames a worker decodes. */

import source from "worker:./worker";
import type { Status } from "../container/catalogue";
import { type Head, parseHead, sizeOf } from "../container/head";
import { lastWhere } from "../container/index";
import { InvError, ofMemory } from "../errors";
import type { Frame, NetworkState } from "../field/frame";
import { type Roles, rolesOf } from "../field/roles";
import type { Traffic } from "../source/source";
import type { Answer, Entry, Patch, Request } from "./messages";

/** How a file ended. */
export interface Ending {
  status: Status;
  /** Frames that the file once had. */
  lost: number;
  problems: string[];
}

interface Waiting {
  id: number;
  resolve(frame: Frame): void;
  reject(error: unknown): void;
}

/**
 * A file that is open. Events: `entries` (frames were added), `end`, `buffer`, `connection`, `replaced` (another file has
 * taken the place of the one that is followed: open it anew), and `error` (nothing more will come; see `error`).
 */
export class Video extends EventTarget {
  readonly roles: Roles;
  /** The frames so far. */
  readonly entries: Entry[] = [];
  /** null: more frames may come. */
  ending: Ending | null = null;
  /** Positions [from, to) of frames whose records are here. */
  buffered: [number, number][] = [];
  traffic: Traffic = { requests: 0, bytes: 0 };
  /** Whether the connection to a file that is followed is lost, and is being made anew. */
  isLost = false;
  error: InvError | null = null;

  private readonly networks: NetworkState[];
  private waiting: Waiting | null = null;
  private requests = 0;

  private constructor(
    readonly head: Head,
    private readonly link: Link,
  ) {
    super();
    this.roles = rolesOf(head);
    this.networks = head.networks.map(({ tensors }) => {
      const occupancy = tensors.find(({ name }) => name === "occupancy");
      return {
        tensors: new Map(tensors.map(({ name, shape }) => [name, new Float32Array(sizeOf(shape))])),
        occupancy: occupancy ? new Uint8Array(sizeOf(occupancy.shape)) : null,
        changed: new Map(),
      };
    });
    link.listen = (answer) => this.hear(answer);
  }

  /**
   * Open a file: an address, a file of the user's, or bytes.
   *
   * @param follow a file that is being written: take its frames as they come
   * @throws InvError the file is refused, or cannot be had
   */
  static async open(from: string | Blob | BufferSource, { follow = false } = {}): Promise<Video> {
    const link = connect();
    const here = typeof document === "undefined" ? undefined : document.baseURI;
    const what = typeof from === "string" ? new URL(from, here).href : from instanceof Blob ? from : new Blob([from]);
    const early: Answer[] = [];
    try {
      const head = await new Promise<Head>((resolve, reject) => {
        link.listen = (answer) => {
          early.push(answer);
          if (answer.tell === "head") resolve(parseHead(answer.payload));
          else if (answer.tell === "failed") reject(new InvError(answer.kind, answer.message));
        };
        link.send({ do: "open", from: what, follow });
      });
      const video = new Video(head, link);
      for (const answer of early) video.hear(answer);
      return video;
    } catch (error) {
      link.close();
      throw ofMemory(error);
    }
  }

  /** In seconds, from time 0 to the end of the last frame. */
  get duration(): number {
    const [frames, seconds] = this.head.frameRate;
    return this.entries.length ? this.entries.at(-1)!.time + seconds / frames : 0;
  }

  /** Position of the frame that is shown at a time, in seconds: of the first one before it begins. */
  positionAt(time: number): number {
    return Math.max(
      0,
      lastWhere(this.entries.length, (i) => this.entries[i]!.time <= time),
    );
  }

  /**
   * Decode the frame at a position. It is valid until the next one is delivered, with which it shares its arrays. A call
   * supersedes earlier ones: those that are not answered are rejected with an `AbortError`.
   *
   * @throws InvError the frame is damaged, or cannot be had
   */
  frame(position: number): Promise<Frame> {
    this.waiting?.reject(new DOMException("another frame was asked for", "AbortError"));
    return new Promise((resolve, reject) => {
      if (this.error) return reject(this.error);
      this.waiting = { id: ++this.requests, resolve, reject };
      this.link.send({ do: "frame", id: this.requests, position });
    });
  }

  /** Stop, and give memory back. */
  close(): void {
    this.waiting?.reject(new DOMException("the video was closed", "AbortError"));
    this.waiting = null;
    this.link.close();
  }

  private hear(answer: Answer): void {
    switch (answer.tell) {
      case "frame":
        this.deliver(answer);
        return;
      case "failed":
        this.fail(answer);
        return;
      case "entries":
        for (const entry of answer.entries) this.entries.push(entry);
        break;
      case "end":
        this.ending = { status: answer.status, lost: answer.lost, problems: answer.problems };
        break;
      case "connection":
        this.isLost = answer.isLost;
        break;
      case "buffer":
        this.buffered = answer.ranges;
        this.traffic = answer.traffic;
    }
    this.dispatchEvent(new Event(answer.tell));
  }

  private deliver({ id, position, patches, ...rest }: Extract<Answer, { tell: "frame" }>): void {
    this.traffic = rest.traffic;
    // What a superseded frame changed counts as changed by the next one that is delivered.
    for (const patch of patches) apply(patch, this.networks[patch.network]!);
    if (id !== this.waiting?.id) return;
    const { number, time, isKey } = this.entries[position]!;
    const networks = this.networks.map((network) => ({ ...network }));
    for (const network of this.networks) network.changed = new Map();
    const { stats, decoding, cameras } = rest;
    this.waiting.resolve({ number, time, key: isKey, stats, decoding, head: this.head, cameras, networks });
    this.waiting = null;
  }

  private fail({ id, kind, message }: Extract<Answer, { tell: "failed" }>): void {
    const error = new InvError(kind, message);
    if (id === null) {
      this.error = error;
      this.dispatchEvent(new Event("error"));
    }
    if (id !== null && id !== this.waiting?.id) return;
    this.waiting?.reject(error);
    this.waiting = null;
  }
}

/** Write changed values, and note where they are. */
function apply({ tensor, ranges, values }: Patch, network: NetworkState): void {
  const target = network.tensors.get(tensor)!;
  let at = 0;
  for (const [from, to] of ranges) {
    target.set(values.subarray(at, at + to - from), from);
    at += to - from;
    if (tensor === "occupancy") occupy(network, from, to);
  }
  network.changed.set(tensor, merged([...(network.changed.get(tensor) ?? []), ...ranges]));
}

/** FORMAT.md "Parts": a weight of exactly p + 1 marks a cell of part p. */
function occupy({ tensors, occupancy }: NetworkState, from: number, to: number): void {
  const parts = (tensors.get("motion")?.length ?? 0) / 12;
  const weights = tensors.get("occupancy")!;
  for (let i = from; i < to; i++) {
    const weight = weights[i]!;
    const isPart = Number.isInteger(weight) && weight >= 2 && weight <= parts + 1;
    occupancy![i] = isPart ? weight : weight === 0 ? 0 : 1;
  }
}

/** Ranges in order that do not overlap. */
function merged(ranges: [number, number][]): [number, number][] {
  const result: [number, number][] = [];
  for (const [from, to] of ranges.sort(([a], [b]) => a - b)) {
    const last = result.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else result.push([from, to]);
  }
  return result;
}

/** Both ends of the conversation with a worker. */
interface Link {
  listen: (answer: Answer) => void;
  send(request: Request): void;
  close(): void;
}

/** Start a worker or, where there are none (Node), run what it would run in this thread. */
function connect(): Link {
  const link: Link = { listen: () => {}, send: () => {}, close: () => {} };
  if (typeof Worker === "undefined") {
    const self = { onmessage: (_: { data: Request }) => {}, postMessage: (answer: Answer) => link.listen(answer) };
    new Function("self", source)(self);
    link.send = (data) => self.onmessage({ data });
    link.close = () => {
      link.listen = () => {};
    };
    return link;
  }
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address);
  worker.onmessage = ({ data }: MessageEvent<Answer>) => link.listen(data);
  worker.onerror = ({ message }) => link.listen({ tell: "failed", id: null, kind: "unsupported", message });
  link.send = (request) => worker.postMessage(request);
  link.close = () => {
    worker.terminate();
    URL.revokeObjectURL(address);
  };
  return link;
}
