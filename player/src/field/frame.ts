/** A decoded frame, as renderers take it. */

import type { Stats } from "../container/frame";
import type { Camera, Head } from "../container/head";

/** The weights of one network. */
export interface NetworkState {
  /** Weights by tensor name, in the order and of the shapes that HEAD gives, row-major. */
  tensors: Map<string, Float32Array>;
  /** [M * M * M] cells, row-major: 0 is empty, p + 1 belongs to part p (from 1), 1 is occupied otherwise. */
  occupancy: Uint8Array | null;
  /** Ranges [from, to) of values that differ from those of the frame delivered before; an absent tensor is the same. */
  changed: Map<string, [number, number][]>;
}

export interface Frame {
  number: number;
  /** In seconds. */
  time: number;
  key: boolean;
  stats: Stats;
  /** Milliseconds that decoding took, from the frame before or from the last keyframe on. */
  decoding: number;
  head: Head;
  /** Those in effect at this frame. */
  cameras: Camera[];
  /** In the order of HEAD. */
  networks: NetworkState[];
}
