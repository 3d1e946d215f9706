/** What a page and its decoding worker tell each other. */

import type { Status } from "../container/catalogue";
import type { Stats } from "../container/frame";
import type { Camera } from "../container/head";
import type { ErrorClass } from "../errors";
import type { Traffic } from "../source/source";

/** A frame of the file. */
export interface Entry {
  /** Rounded beyond 2^53. */
  number: number;
  /** When it is shown, in seconds. */
  time: number;
  isKey: boolean;
  /** Of its record, in bytes. */
  size: number;
}

/** To the worker. */
export type Request =
  | { do: "open"; from: string | Blob; follow: boolean }
  /** Decode a frame; supersedes earlier requests that were not answered. */
  | { do: "frame"; id: number; position: number };

/** Values of a tensor that changed: those of all ranges [from, to), one after the other. */
export interface Patch {
  network: number;
  tensor: string;
  ranges: [number, number][];
  values: Float32Array<ArrayBuffer>;
}

/** From the worker. */
export type Answer =
  | { tell: "head"; payload: Uint8Array<ArrayBuffer> }
  /** More frames, in order. */
  | { tell: "entries"; entries: Entry[] }
  /** No more frames will come. */
  | { tell: "end"; status: Status; lost: number; problems: string[] }
  /** A frame; what changed is relative to the frame before that was told. */
  | {
      tell: "frame";
      id: number;
      position: number;
      stats: Stats;
      decoding: number;
      cameras: Camera[];
      patches: Patch[];
      traffic: Traffic;
    }
  /** A frame cannot be had, or (id null) the file. */
  | { tell: "failed"; id: number | null; kind: ErrorClass; message: string }
  /** Positions [from, to) whose records are here, and what was fetched. */
  | { tell: "buffer"; ranges: [number, number][]; traffic: Traffic }
  /** Whether a file that is followed arrives. */
  | { tell: "connection"; isLost: boolean }
  /** Another file has taken the place of the one that is followed: nothing more will come. */
  | { tell: "replaced" };
