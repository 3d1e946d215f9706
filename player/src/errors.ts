/** The error classes of FORMAT.md ("Exit codes"), and `network` for what was not received. */
export type ErrorClass = "usage" | "damaged" | "unsupported" | "limit" | "network";

/** The only error that reading and decoding throw on purpose: one line that says what is wrong and where. */
export class InvError extends Error {
  constructor(
    readonly kind: ErrorClass,
    message: string,
  ) {
    super(message);
    this.name = "InvError";
  }
}

/** Another file has taken the place of the one that is followed. */
export class Replaced extends Error {}

/** Throw an `InvError` unless `ok`. */
export function need(ok: boolean, kind: ErrorClass, message: string): asserts ok {
  if (!ok) throw new InvError(kind, message);
}

/** What a `RangeError` says here: memory for what a file declares could not be had. */
export function ofMemory(error: unknown): unknown {
  return error instanceof RangeError ? new InvError("limit", "the file needs more memory than there is") : error;
}
