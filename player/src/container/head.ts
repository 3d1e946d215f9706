/** What HEAD declares (FORMAT.md "HEAD" and "Cameras"). */

/** Numerator and denominator. */
export type Ratio = readonly [number, number];

export interface Camera {
  name: string;
  /** Size in pixels. */
  width: number;
  height: number;
  /** Focal lengths and principal point in pixels. */
  flX: number;
  flY: number;
  cx: number;
  cy: number;
  /** OpenCV's distortion; absent coefficients are 0. */
  k1: number;
  k2: number;
  p1: number;
  p2: number;
  k3: number;
  k4: number;
  k5: number;
  k6: number;
  s1: number;
  s2: number;
  s3: number;
  s4: number;
  fisheye: boolean;
  /** Bounds of the scene as z-depth, if known. */
  near: number | null;
  far: number | null;
  heldOut: boolean;
  /** Camera to world, 3 rows of 4. */
  pose: number[];
}

export interface Tensor {
  name: string;
  shape: number[];
  /** 0: structure; 1: colour. */
  group: number;
}

/** The configuration of a profile. */
export type Config = Record<string, number | number[]>;

/** A structured field of any kind, as JSON has them; integers of 2^53 and above are rounded. */
export type Plain = null | boolean | number | string | Uint8Array | Plain[] | { [key: string]: Plain };

export interface Network {
  name: string;
  role: string;
  profile: number;
  profileName: string;
  version: number;
  config: Config;
  space: { [key: string]: Plain };
  tensors: Tensor[];
}

export interface Head {
  frameRate: Ratio;
  /** Seconds per tick of frame times. */
  timeBase: Ratio;
  sourceSize: readonly [number, number];
  downscale: number;
  /** 0 to 1; null: transparent. */
  background: readonly [number, number, number] | null;
  colourSpace: string;
  units: string;
  cameras: Camera[];
  networks: Network[];
  encoder: { [key: string]: Plain };
  tags: Record<string, string>;
}
