/** What HEAD declares (FORMAT.md "HEAD" and "Cameras"). */

import { InvError, need } from "../errors";
import { MAX_CAMERAS, MAX_DIMENSIONS, MAX_HEADER, MAX_NETWORKS, MAX_SIDE, MAX_TENSORS, MAX_VALUES } from "../limits";
import { unpack, type Value } from "./canonical";
import { decompress } from "./compressed";
import {
  counted,
  flag,
  integer,
  isInteger,
  limited,
  list,
  map,
  name,
  nullable,
  optional,
  plain,
  positive,
  type Rule,
  ratio,
  real,
  text,
} from "./fields";

const DRAFT = 1;

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
  /** As it is stored; `spaceOf` interprets it. */
  space: Map<string, Value>;
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

const size = limited(1, MAX_SIDE);
const coefficient = optional(real(), 0);

/** A camera with all its coefficients. */
const camera: Rule<Camera> = (value, what) => {
  const fields = map(value, what);
  const get = <T>(key: string, rule: Rule<T>): T => rule(fields.get(key), `${what}: ${key}`);
  return {
    name: get("name", name),
    width: get("width", size),
    height: get("height", size),
    flX: get("fl_x", positive),
    flY: get("fl_y", positive),
    cx: get("cx", real()),
    cy: get("cy", real()),
    k1: get("k1", real()),
    k2: get("k2", real()),
    p1: get("p1", real()),
    p2: get("p2", real()),
    k3: get("k3", coefficient),
    k4: get("k4", coefficient),
    k5: get("k5", coefficient),
    k6: get("k6", coefficient),
    s1: get("s1", coefficient),
    s2: get("s2", coefficient),
    s3: get("s3", coefficient),
    s4: get("s4", coefficient),
    fisheye: get("fisheye", optional(flag, false)),
    near: get("near", nullable(real())),
    far: get("far", nullable(real())),
    heldOut: get("held_out", flag),
    pose: get("pose", list(real(), 12)),
  };
};

export const cameras: Rule<Camera[]> = (value, what) => {
  const result = counted(camera, MAX_CAMERAS)(value, what);
  unique(result, what);
  return result;
};

function unique(items: { name: string }[], what: string): void {
  need(new Set(items.map((item) => item.name)).size === items.length, "damaged", `${what}: two have the same name`);
}

const tensor: Rule<Tensor> = (value, what) => {
  const [label, shape, group] = list((each: Value | undefined) => each, 3)(value, what);
  return {
    name: name(label, `${what}: name`),
    shape: counted(dimension, MAX_DIMENSIONS)(shape, `${what}: dimensions`),
    group: integer(0, 1)(group, `${what}: group`),
  };
};

const tensors: Rule<Tensor[]> = (value, what) => {
  const result = counted(tensor, MAX_TENSORS)(value, what);
  unique(result, what);
  return result;
};

/** At least 1; that there are not too many values in all is checked afterwards. */
const dimension: Rule<number> = (value, what) => {
  need(isInteger(value) && value >= 1, "damaged", `${what}: not a size`);
  return Number(value);
};

const wholeNumber: Rule<number> = (value, what) => {
  need(isInteger(value), "damaged", `${what}: not an integer`);
  return Number(value);
};

const config: Rule<Config> = (value, what) => {
  const entries = [...map(value, what)].map(([key, each]) => {
    return [
      key,
      Array.isArray(each) ? list(wholeNumber)(each, `${what}: ${key}`) : wholeNumber(each, `${what}: ${key}`),
    ] as const;
  });
  return Object.fromEntries(entries);
};

const network: Rule<Network> = (value, what) => {
  const fields = map(value, what);
  const get = <T>(key: string, rule: Rule<T>): T => rule(fields.get(key), `${what}: ${key}`);
  return {
    name: get("name", name),
    role: get("role", name),
    profile: get("profile", integer(0, 2 ** 31 - 1)),
    profileName: get("profile_name", name),
    version: get("version", integer(0, 2 ** 31 - 1)),
    config: get("config", config),
    space: get("space", map),
    tensors: get("tensors", tensors),
  };
};

/** Number of values of a tensor. */
export function sizeOf(shape: number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** All tensors of all networks, in order (the *table* of FORMAT.md). */
export function tableOf(head: Head): Tensor[] {
  return head.networks.flatMap((each) => each.tensors);
}

/**
 * Parse the payload of HEAD.
 *
 * @throws InvError damaged, unsupported, limit
 */
export async function parseHead(payload: Uint8Array<ArrayBuffer>): Promise<Head> {
  need(payload.length >= 2, "damaged", "the header is too short");
  need(
    payload[1] === DRAFT,
    "unsupported",
    `the file needs a reader of draft ${payload[1]} of the format, not ${DRAFT}`,
  );
  const fields = map(
    unpack(await decompress(payload.subarray(2), "the header", MAX_HEADER), "the header"),
    "the header",
  );
  const get = <T>(key: string, rule: Rule<T>): T => rule(fields.get(key), `the header: ${key}`);
  const head: Head = {
    frameRate: get("frame_rate", ratio),
    timeBase: get("time_base", ratio),
    sourceSize: get("source_size", list(integer(1, 2 ** 20), 2)) as [number, number],
    downscale: get("downscale", integer(1, 1024)),
    background: get("background", nullable(list(real(0, 1), 3))) as [number, number, number] | null,
    colourSpace: get("colour_space", name),
    units: get("units", name),
    cameras: get("cameras", cameras),
    networks: get("networks", counted(network, MAX_NETWORKS)),
    encoder: plain(get("encoder", map)) as Head["encoder"],
    tags: get("tags", tags),
  };
  unique(head.networks, "the header: networks");
  const values = tableOf(head).reduce((sum, each) => sum + sizeOf(each.shape), 0);
  if (values > MAX_VALUES)
    throw new InvError("limit", `the header: ${values} values in a state, more than ${MAX_VALUES}`);
  return head;
}

const tags: Rule<Record<string, string>> = (value, what) => {
  return Object.fromEntries([...map(value, what)].map(([key, each]) => [key, text(each, `${what}: ${key}`)]));
};
