/**
 * Files that are being written: from `invcodec serve` or `view` (`?follow`: header, last keyframe, and what comes since;
 * `?index`: the frames so far), or on any other server, which is asked again and again for what is new.
 */

import { InvError, Replaced } from "../errors";
import { bodyOf, NO_SUCH_RANGE, RangeSource, request, wait, whole } from "./http";
import type { Source, Traffic } from "./source";

/** Milliseconds before each attempt to connect again; the last one repeats. */
const RETRIES = [100, 200, 500, 1000, 2000];
/** Milliseconds after which a server is asked for what is new. */
const POLL = 500;
/** Bytes of a list of frames. */
const MAX_LIST = 2 ** 26;

/** Bytes of a file that is followed. */
export interface Connection {
  /** INDEX records of the frames so far. null: the pieces are those of the file itself, from its beginning on. */
  index: Uint8Array<ArrayBuffer> | null;
  /** With an index: a file of its own, which begins at the last keyframe. */
  pieces: AsyncIterable<Uint8Array>;
}

/** A file that is being written, to be read at any place that is written already. */
export const growing = (url: string, traffic: Traffic): Source =>
  new RangeSource(url, traffic, new Uint8Array(0), Number.POSITIVE_INFINITY, undefined);

/**
 * The INDEX records of the frames so far.
 *
 * @throws InvError network
 */
export async function indexOf(url: string, traffic: Traffic): Promise<Uint8Array<ArrayBuffer>> {
  return whole(await request(withQuery(url, "index"), traffic, { cache: "no-store" }), traffic, MAX_LIST);
}

/** `told` hears whether the connection is lost. */
export async function* connections(
  url: string,
  traffic: Traffic,
  told: (isLost: boolean) => void,
): AsyncGenerator<Connection> {
  // A server that is busy may not have the first keyframe yet.
  let persists = (status: number | null): boolean => status === 503;
  for (let attempt = 0; ; attempt++) {
    const answer = await request(withQuery(url, "follow"), traffic, { cache: "no-store", persists });
    persists = () => true;
    if (answer.headers.get("Inv-Answer") !== "follow") {
      yield { index: null, pieces: polled(url, answer, traffic, told) };
      return;
    }
    try {
      // Not before the stream has begun, so that no frame is in neither of them.
      const index = await indexOf(url, traffic);
      told(false);
      const before = traffic.bytes;
      yield { index, pieces: bodyOf(answer, traffic) };
      if (traffic.bytes > before) attempt = 0;
    } catch (error) {
      if (!(error instanceof InvError) || error.kind !== "network") throw error;
    }
    told(true);
    await wait(RETRIES[Math.min(attempt, RETRIES.length - 1)]!);
  }
}

/**
 * All bytes of a file on a server that knows only files; the first answer has those so far.
 *
 * @throws Replaced
 */
async function* polled(
  url: string,
  first: Response,
  traffic: Traffic,
  told: (isLost: boolean) => void,
): AsyncGenerator<Uint8Array> {
  let answer = first;
  for (let at = 0; ; ) {
    // Without ranges, all of the file comes each time.
    let known = answer.status === 206 ? 0 : at;
    const size = sizeOf(answer, at);
    if (size !== null && size < at) throw new Replaced();
    try {
      if (size === null || size > at) {
        for await (const piece of bodyOf(answer, traffic)) {
          const fresh = piece.subarray(Math.min(known, piece.length));
          known -= piece.length - fresh.length;
          at += fresh.length;
          yield fresh;
        }
      } else await answer.body?.cancel();
      told(false);
    } catch (error) {
      if (!(error instanceof InvError)) throw error;
      told(true);
    }
    await wait(POLL);
    const headers = { Range: `bytes=${at}-` };
    answer = await request(url, traffic, { headers, cache: "no-store", persists: () => true });
  }
}

/** How long a file is that was asked for from byte `at` on, as far as the answer says. */
function sizeOf(answer: Response, at: number): number | null {
  if (answer.status === 206) return null;
  if (answer.status !== NO_SUCH_RANGE) {
    const length = answer.headers.get("Content-Length");
    // What is unpacked on the way has another length.
    return length && !answer.headers.get("Content-Encoding") ? Number(length) : null;
  }
  return Number(/^bytes \*\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "")?.[1] ?? at);
}

function withQuery(url: string, name: string): string {
  const address = new URL(url);
  address.searchParams.delete("follow");
  address.searchParams.set(name, "");
  return address.href;
}
