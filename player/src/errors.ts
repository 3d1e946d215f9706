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

/** Throw an `InvError` unless `ok`. */
export function need(ok: boolean, kind: ErrorClass, message: string): asserts ok {
  if (!ok) throw new InvError(kind, message);
}
