/** The state at any frame: the last keyframe and the deltas since (FORMAT.md "State"). */

import { State } from "../coding/state";
import type { FrameHead } from "../container/frame";
import type { Head } from "../container/head";
import type { Row } from "../container/index";
import { InvError } from "../errors";

/** The parsed record of the frame at a position; `last` is the last position that will be asked for. */
export type Load = (position: number, last: number) => Promise<[FrameHead, Uint8Array]>;

export class Chain {
  readonly state: State;
  /** The header of the frame whose state this is. */
  frame: FrameHead | null = null;
  /** Milliseconds that the last `seek` spent decoding. */
  decoding = 0;
  /** Of the frame whose state this is; null: of none. */
  private position: number | null = null;
  /** What is wrong with frames that do not decode, by position. */
  private readonly broken = new Map<number, InvError>();

  constructor(
    head: Head,
    private readonly rows: Row[],
    private readonly load: Load,
  ) {
    this.state = new State(head);
  }

  /**
   * Decode up to a position; false if `stopped` became true on the way.
   *
   * @throws InvError the frame is damaged, or one that it builds on; network; unsupported
   */
  async seek(position: number, stopped: () => Promise<boolean>): Promise<boolean> {
    let first = position;
    while (first > 0 && !this.rows[first]!.isKey && first !== this.position) first--;
    if (first === this.position) first++;
    this.decoding = 0;
    for (let at = first; at <= position; at++) {
      if (await stopped()) return false;
      const { number, isKey } = this.rows[at]!;
      const broken = this.broken.get(at);
      if (broken) throw broken;
      try {
        const [frame, coded] = await this.load(at, position);
        if (!isKey && this.position !== at - 1) throw new InvError("damaged", "there is no keyframe before it");
        this.position = null;
        const start = performance.now();
        this.state.apply(frame, coded);
        this.decoding += performance.now() - start;
        this.position = at;
        this.frame = frame;
      } catch (error) {
        if (!(error instanceof InvError)) throw error;
        const told = new InvError(error.kind, `frame ${number}: ${error.message}`);
        if (error.kind !== "network") this.broken.set(at, told);
        throw told;
      }
    }
    return true;
  }
}
