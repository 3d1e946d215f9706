/** Files on web servers: by range requests (RFC 9110, section 14) or, where there are none, from beginning to end. */

import { InvError, need } from "../errors";
import type { Source, Stream, Traffic } from "./source";

/** What a first request asks for: the header, and often the first keyframe. */
const FIRST = 2 ** 16;
/** Milliseconds before each further attempt. */
const RETRIES = [200, 1000, 3000];
/** Milliseconds within which a server must begin to answer, and send more of an answer. */
const PATIENCE = 30_000;

export const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What a request may ask for besides an address. */
interface Wish {
  headers?: Record<string, string>;
  cache?: RequestCache;
  /** Whether to go on asking a server that has this status, or (null) cannot be reached. */
  persists?: (status: number | null) => boolean;
}

/** Nothing of the file is in the range that was asked for. */
export const NO_SUCH_RANGE = 416;

/**
 * The answer to a request, which has a body, or has status 416.
 *
 * @throws InvError network
 */
export async function request(url: string, traffic: Traffic, wish: Wish = {}): Promise<Response> {
  const { persists = () => false, ...options } = wish;
  for (let attempt = 0; ; attempt++) {
    traffic.requests++;
    const hung = new AbortController();
    const timer = setTimeout(() => hung.abort(), PATIENCE);
    const answer = await fetch(url, { ...options, signal: hung.signal }).catch(() => null);
    clearTimeout(timer);
    if (answer && ((answer.ok && answer.body) || answer.status === NO_SUCH_RANGE)) return answer;
    const status = answer?.status ?? null;
    const isFinal = status !== null && status >= 400 && status < 500;
    if (isFinal || (attempt >= RETRIES.length && !persists(status))) {
      const silent = hung.signal.aborted ? "the server does not answer" : "the server cannot be reached";
      const said = answer ? `the server answers ${answer.status} ${answer.statusText}`.trim() : silent;
      throw new InvError("network", `${url}: ${said}`);
    }
    await wait(RETRIES[Math.min(attempt, RETRIES.length - 1)]!);
  }
}

/**
 * The pieces of an answer's body, counted.
 *
 * @throws InvError network: the connection was lost
 */
export async function* bodyOf(answer: Response, traffic: Traffic): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = answer.body!.getReader();
  try {
    while (true) {
      const next = await inTime(reader.read()).catch(() => {
        throw new InvError("network", `${answer.url}: the connection was lost`);
      });
      if (next.done) return;
      traffic.bytes += next.value.length;
      yield next.value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What is promised, or an error if it does not come in time. */
function inTime<T>(promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("too late")), PATIENCE);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** At most `limit` bytes of an answer. */
export async function whole(answer: Response, traffic: Traffic, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const result = new Uint8Array(limit);
  let size = 0;
  for await (const piece of bodyOf(answer, traffic)) {
    need(size + piece.length <= limit, "network", `${answer.url}: the server sends more than was asked for`);
    result.set(piece, size);
    size += piece.length;
  }
  return result.subarray(0, size);
}

/** A file on a server that sends parts of it. */
export class RangeSource implements Source {
  /**
   * @param first what is known of its beginning
   * @param tag what tells this version of it from others; undefined: it grows, and has many
   */
  constructor(
    private readonly url: string,
    readonly traffic: Traffic,
    private readonly first: Uint8Array<ArrayBuffer>,
    readonly size: number,
    private readonly tag: string | null | undefined,
  ) {}

  async read(from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    if (to <= this.first.length) return this.first.slice(from, to);
    for (let attempt = 0; ; attempt++) {
      const headers = { Range: `bytes=${from}-${to - 1}` };
      const answer = await request(this.url, this.traffic, { headers });
      need(answer.status !== 200, "network", `${this.url}: the server sends no parts of files`);
      const isSame = answer.status === 206 && (this.tag === undefined || tagOf(answer) === this.tag);
      need(isSame, "network", `${this.url}: the file has changed; open it again`);
      try {
        const data = await whole(answer, this.traffic, to - from);
        need(data.length === to - from, "network", `${this.url}: the server sends less than was asked for`);
        return data;
      } catch (error) {
        if (attempt === RETRIES.length) throw error;
        await wait(RETRIES[attempt]!);
      }
    }
  }
}

function tagOf(answer: Response): string | null {
  return answer.headers.get("ETag") ?? answer.headers.get("Last-Modified");
}

/**
 * Open a file on a server with one request; a `Stream` if the server has no ranges.
 *
 * @throws InvError network
 */
export async function openUrl(url: string): Promise<Source | Stream> {
  const traffic = { requests: 0, bytes: 0 };
  const answer = await request(url, traffic, { headers: { Range: `bytes=0-${FIRST - 1}` } });
  // Of another origin, the header may be hidden.
  const total = /^bytes 0-\d+\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "")?.[1];
  if (answer.status === 206 && total) {
    return new RangeSource(url, traffic, await whole(answer, traffic, FIRST), Number(total), tagOf(answer));
  }
  if (answer.status !== 206) return { traffic, pieces: () => bodyOf(answer, traffic) };
  await answer.body!.cancel();
  return {
    traffic,
    pieces: async function* () {
      yield* bodyOf(await request(url, traffic), traffic);
    },
  };
}
