/** FORMAT.md "State": the integers of a frame, and what a decoder keeps from one record to the next. */

import type { FrameHead } from "../container/frame";
import { type Head, sizeOf, tableOf } from "../container/head";
import { need } from "../errors";
import { Digest } from "./digest";
import { Hints, isGrid } from "./hints";
import { type Places, placesOf } from "./places";
import { BitDecoder } from "./rangecoder";
import { CHANGES, MIX_CHANGES, Statistics } from "./statistics";
import { Walk } from "./walk";

const MAX_INTEGER = 2 ** 24;
const MAX_SET = 63;
/** Values of which `dirty` has one mark. */
export const DIRTY = 256;

/** A tensor of the table. */
export interface TensorState {
  shape: number[];
  places: Places;
  qp: number;
  /** Integers. */
  values: Int32Array;
  recent: Int8Array;
  history: Uint8Array;
  /** A mark for each `DIRTY` values: whether one may have changed since the marks were last cleared. */
  dirty: Uint8Array;
}

/** The state of one frame after the other. After an error it is undefined until the next KEY. */
export class State {
  /** In the order of the table. */
  readonly tensors: TensorState[];
  private readonly statistics = new Statistics();
  private readonly digest = new Digest();
  /** Of each tensor: how many numbers come before its integers in the digest. */
  private readonly before: number[] = [];
  // The residual of the tensor that is being decoded, and which of its places it changes.
  private readonly residual: Int32Array;
  private readonly changed: Uint8Array;

  /** @throws RangeError there is not enough memory for the state */
  constructor(private readonly head: Head) {
    const table = tableOf(head);
    const sizes = table.map(({ shape }) => sizeOf(shape));
    let before = table.length;
    for (const size of sizes) {
      this.before.push(before);
      before += size;
    }
    this.tensors = table.map(({ shape }, i) => {
      const places = placesOf(shape);
      return {
        shape,
        places,
        qp: 0,
        values: new Int32Array(sizes[i]!),
        recent: new Int8Array(sizes[i]!),
        history: new Uint8Array(places.count),
        dirty: new Uint8Array(Math.ceil(sizes[i]! / DIRTY)),
      };
    });
    this.residual = new Int32Array(Math.max(...sizes));
    this.changed = new Uint8Array(Math.max(...this.tensors.map(({ places }) => places.count)));
  }

  /**
   * Decode a record, which changes this state.
   *
   * @throws InvError damaged: the state is lost; unsupported: an unknown coder
   */
  apply(frame: FrameHead, coded: Uint8Array): void {
    need(frame.coder === 1, "unsupported", `coder ${frame.coder}`);
    const isKey = frame.reference === null;
    // Statistics begin anew with a KEY and with the DELTA after it.
    if (isKey || this.fresh) this.statistics.reset();
    this.fresh = isKey;
    if (isKey) this.restart(frame.qps!);
    const coder = new BitDecoder(coded, this.statistics);
    let first = 0;
    for (const network of this.head.networks) {
      const hints = new Hints(network, isKey);
      for (const t of order(
        network.tensors.map(({ name }) => name),
        isGrid(network),
      )) {
        const tensor = this.tensors[first + t]!;
        const changes = this.decode(coder, first + t, isKey, () => hints.of(t, tensor.places.count));
        if (isGrid(network) && network.tensors[t]!.name === "occupancy") {
          hints.setOccupancy(tensor.values, tensor.shape);
        } else if (!isKey) hints.learn(t, changes ? this.changed : null);
      }
      first += network.tensors.length;
    }
    coder.finish();
    const digest = this.digest.bytes();
    need(
      digest.every((byte, i) => byte === frame.digest[i]),
      "damaged",
      "its digest differs",
    );
  }

  private fresh = true;

  private restart(qps: number[]): void {
    this.digest.reset();
    this.tensors.forEach((tensor, i) => {
      tensor.qp = qps[i]!;
      this.digest.add(i + 1, tensor.qp);
      tensor.values.fill(0);
      tensor.recent.fill(0);
      tensor.history.fill(0);
      tensor.dirty.fill(1);
    });
  }

  /** Decode a tensor of the table; whether it changes. */
  private decode(coder: BitDecoder, index: number, isKey: boolean, hints: () => Uint8Array | null): boolean {
    const tensor = this.tensors[index]!;
    const { places, values, recent, history } = tensor;
    const t = Math.min(index, MAX_SET);
    if (!isKey) {
      coder.inputs[0] = CHANGES + t;
      if (coder.bit(MIX_CHANGES, 1) === 0) {
        recent.fill(0);
        for (let i = 0; i < history.length; i++) history[i] = history[i]! >> 1;
        return false;
      }
    }
    const residual = this.residual.subarray(0, values.length).fill(0);
    const changed = this.changed.subarray(0, places.count).fill(0);
    new Walk(coder, t, places, { isKey, before: values, recent, history, hints: hints() }, residual, changed).run();
    this.add(tensor, this.before[index]!, isKey, residual, changed);
    return true;
  }

  private add(tensor: TensorState, before: number, isKey: boolean, residual: Int32Array, changed: Uint8Array): void {
    const { places, values, recent, history, dirty } = tensor;
    const { features } = places;
    if (!isKey) {
      recent.fill(0);
      for (let i = 0; i < history.length; i++) history[i] = (history[i]! >> 1) + (changed[i]! << 7);
    }
    for (let i = 0; i < places.count; i++) {
      if (!changed[i]) continue;
      for (let j = i * features; j < (i + 1) * features; j++) {
        const v = residual[j]!;
        if (v === 0) continue;
        const value = values[j]! + v;
        need(value < MAX_INTEGER && value > -MAX_INTEGER, "damaged", "an integer is out of range");
        values[j] = value;
        dirty[(j / DIRTY) | 0] = 1;
        this.digest.add(before + j + 1, v);
        if (!isKey) recent[j] = Math.max(-3, Math.min(v, 3));
      }
    }
  }
}

/** FORMAT.md "Order": indices of a network's tensors in the order in which they are coded. */
function order(names: string[], grid: boolean): number[] {
  const indices = names.map((_, i) => i);
  const isFirst = (i: number) => grid && names[i] === "occupancy";
  return [...indices.filter(isFirst), ...indices.filter((i) => !isFirst(i))];
}
