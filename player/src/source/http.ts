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

/**
 * The answer to a request, which has a body.
 *
 * @throws InvError network
 */
export async function request(url: string, traffic: Traffic, headers: Record<string, string> = {}): Promise<Response> {
  for (let attempt = 0; ; attempt++) {
    traffic.requests++;
    const hung = new AbortController();
    const timer = setTimeout(() => hung.abort(), PATIENCE);
    const failed = await fetch(url, { headers, signal: hung.signal }).then(
      (answer) =>
        answer.ok && answer.body ? answer : `the server answers ${answer.status} ${answer.statusText}`.trim(),
      () => (hung.signal.aborted ? "the server does not answer" : "the server cannot be reached"),
    );
    clearTimeout(timer);
    if (typeof failed !== "string") return failed;
    const final = / 4\d\d/.test(failed) || attempt === RETRIES.length;
    if (final) throw new InvError("network", `${url}: ${failed}`);
    await wait(RETRIES[attempt]!);
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
async function whole(answer: Response, traffic: Traffic, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const result = new Uint8Array(limit);
  let size = 0;
  for await (const piece of bodyOf(answer, traffic)) {
    need(size + piece.length <= limit, "network", `${answer.url}: the server sends more than was asked for`);
    result.set(piece, size);
    size += piece.length;
  }
  return result.subarray(0, size);
}

class RangeSource implements Source {
  constructor(
    private readonly url: string,
    readonly traffic: Traffic,
    private readonly first: Uint8Array<ArrayBuffer>,
    readonly size: number,
    private readonly tag: string | null,
  ) {}

  async read(from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    if (to <= this.first.length) return this.first.slice(from, to);
    for (let attempt = 0; ; attempt++) {
      const answer = await request(this.url, this.traffic, { Range: `bytes=${from}-${to - 1}` });
      const isSame = answer.status === 206 && tagOf(answer) === this.tag;
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
  const answer = await request(url, traffic, { Range: `bytes=0-${FIRST - 1}` });
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
