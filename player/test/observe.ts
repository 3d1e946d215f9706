/** What the player finds in a whole file, in the terms of the conformance vectors (spec/vectors). */

import { State } from "../src/coding/state";
import { Catalogue } from "../src/container/catalogue";
import type { RecordHeader } from "../src/container/records";
import { InvError } from "../src/errors";
import { rolesOf } from "../src/field/roles";

const hex = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The class of error with which something is refused, or null. */
function refusal(what: () => unknown): string | null {
  try {
    what();
    return null;
  } catch (error) {
    if (error instanceof InvError) return error.kind;
    throw error;
  }
}

/** Feed a file in pieces of some size, and decode all its frames; `picture` is the refusal to make pictures of it. */
export async function observe(data: Uint8Array, piece = data.length): Promise<unknown> {
  try {
    const headers: RecordHeader[] = [];
    const catalogue = new Catalogue((header) => headers.push(header));
    const frames: unknown[] = [];
    const lost = new Set<bigint>();
    let state: State | null = null;
    let sound = false;
    const pieces = async function* () {
      for (let at = 0; at < data.length; at += piece) yield* catalogue.feed(data.subarray(at, at + piece));
      yield* catalogue.finish();
    };
    for await (const { row, frame, coded } of pieces()) {
      state ??= new State(catalogue.head!);
      try {
        if (!row.isKey && !sound) throw new InvError("damaged", "the frame that it changes is lost");
        sound = false;
        state.apply(frame, coded);
        sound = true;
        frames.push([Number(row.number), row.ticks, row.isKey ? "key" : "delta", hex(frame.digest)]);
      } catch (error) {
        if (!(error instanceof InvError) || error.kind !== "damaged") throw error;
        lost.add(row.number);
      }
    }
    const all = [...new Set([...catalogue.lost, ...lost])].map(Number).sort((a, b) => a - b);
    return {
      refused: null,
      status: lost.size ? "damaged" : catalogue.status,
      records: headers.map(({ type, frame, offset, size }) => [type, Number(frame), offset, size]),
      frames,
      lost: all,
      picture: refusal(() => rolesOf(catalogue.head!)),
    };
  } catch (error) {
    if (!(error instanceof InvError)) throw error;
    return { refused: error.kind, picture: error.kind };
  }
}
