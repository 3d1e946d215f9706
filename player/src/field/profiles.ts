/** FORMAT.md Part III: the tensors that each profile and its configuration imply, and their limits. */

import type { Config, Network, Tensor } from "../container/head";
import { InvError, need } from "../errors";
import {
  MAX_CELLS,
  MAX_DEPTH,
  MAX_LEVELS,
  MAX_OCTAVES,
  MAX_PARTS,
  MAX_RESOLUTION,
  MAX_SAMPLES,
  MAX_TABLE_LOG2,
  MAX_WIDTH,
} from "../limits";

export const NERF = 1;
export const GRID = 2;
export const AFFINE = 3;
export const IMAGE = 4;

/** Layers of a grid: multiples of 4 up to this. */
const MAX_GRID_WIDTH = 256;

type Imply = (config: Config) => Tensor[];

const IMPLIED: { [profile: number]: Imply } = { [NERF]: nerf, [GRID]: grid, [AFFINE]: affine, [IMAGE]: image };

/** An integer of a configuration, from `low` on; above `limit` the file is refused. */
function setting(config: Config, key: string, low: number, limit = Infinity): number {
  const value = config[key];
  need(typeof value === "number" && value >= low, "damaged", `the configuration of a network has no sound ${key}`);
  need(value <= limit, "limit", `${key} of a network is ${value}, more than ${limit}`);
  return value;
}

function resolutionsOf(config: Config): number[] {
  const { resolutions } = config;
  const sound = Array.isArray(resolutions) && resolutions.every((r) => r >= 1);
  need(sound, "damaged", "the configuration of a network has no sound resolutions");
  const highest = Math.max(0, ...resolutions);
  need(highest <= MAX_RESOLUTION, "limit", `a network has a resolution of ${highest}, more than ${MAX_RESOLUTION}`);
  return resolutions;
}

/** Weight and bias of layers given as name, outputs, inputs, group. */
function linear(layers: [string, number, number, number][]): Tensor[] {
  return layers.flatMap(([name, outputs, inputs, group]) => [
    { name: `${name}.weight`, shape: [outputs, inputs], group },
    { name: `${name}.bias`, shape: [outputs], group },
  ]);
}

function hiddenLayers(config: Config, inputs: number): [string, number, number, number][] {
  const depth = setting(config, "depth", 1, MAX_DEPTH);
  const width = setting(config, "width", 1, MAX_WIDTH);
  const structure = setting(config, "structure_layers", 0);
  need(structure <= depth, "damaged", "a network has more structure_layers than layers");
  return Array.from({ length: depth }, (_, i) => [`layers.${i}`, width, i ? width : inputs, i < structure ? 0 : 1]);
}

function nerf(config: Config): Tensor[] {
  const position = 3 + 6 * setting(config, "position_octaves", 0, MAX_OCTAVES);
  const direction = 3 + 6 * setting(config, "direction_octaves", 0, MAX_OCTAVES);
  const layers = hiddenLayers(config, position);
  const width = setting(config, "width", 2);
  need(width % 2 === 0, "damaged", "the width of a network is odd");
  const samples = setting(config, "samples", 1) + setting(config, "importance", 0);
  need(samples <= MAX_SAMPLES, "limit", `a network takes ${samples} samples of a ray, more than ${MAX_SAMPLES}`);
  const cells = setting({ occupancy: 0, ...config }, "occupancy", 0, MAX_CELLS);
  const occupancy = { name: "occupancy", shape: [cells, cells, cells], group: 0 };
  return [
    ...(cells ? [occupancy] : []),
    ...linear([
      ...layers,
      ["density", 1, width, 1],
      ["feature", width, width, 1],
      ["direction", width / 2, width + direction, 1],
      ["rgb", 3, width / 2, 1],
    ]),
  ];
}

function grid(config: Config): Tensor[] {
  const resolutions = resolutionsOf(config);
  const entries = 2 ** setting(config, "log2_table", 0, MAX_TABLE_LOG2);
  const hidden = setting(config, "hidden", 1);
  const features = setting(config, "features", 1);
  const colour = setting(config, "colour_hidden", 1);
  const cells = setting(config, "occupancy", 1, MAX_CELLS);
  const parts = setting({ parts: 0, ...config }, "parts", 0, MAX_PARTS);
  const levels = resolutions.length;
  setting(config, "samples", 1, MAX_SAMPLES);
  for (const width of [hidden, features + 1, colour, 2 * levels]) {
    const fits = width % 4 === 0 && width >= 4 && width <= MAX_GRID_WIDTH;
    need(
      fits,
      "damaged",
      `a grid has a layer of width ${width}, which is no multiple of 4 from 4 to ${MAX_GRID_WIDTH}`,
    );
  }
  return [
    ...resolutions.map((r, i) => {
      const side = r + 1;
      return { name: `grid.${i}`, shape: side ** 3 > entries ? [entries, 2] : [side, side, side, 2], group: 0 };
    }),
    { name: "occupancy", shape: [cells, cells, cells], group: 0 },
    ...(parts ? [{ name: "motion", shape: [parts, 12], group: 0 }] : []),
    ...linear([
      ["density.0", hidden, 2 * levels, 0],
      ["density.1", 1 + features, hidden, 0],
      ["colour.0", colour, features + 9, 1],
      ["colour.1", colour, colour, 1],
      ["colour.2", 3, colour, 1],
    ]),
  ];
}

function image(config: Config): Tensor[] {
  const resolutions = resolutionsOf(config);
  const levels = resolutions.length;
  need(levels <= MAX_LEVELS, "limit", `a network has ${levels} levels, more than ${MAX_LEVELS}`);
  const inputs = 2 + 4 * setting(config, "octaves", 0, MAX_OCTAVES) + 2 * levels;
  const layers = hiddenLayers(config, inputs);
  return [
    ...resolutions.map((r, i) => ({ name: `grid.${i}`, shape: [r + 1, r + 1, 2], group: 0 })),
    ...linear([...layers, ["rgb", 3, setting(config, "width", 1), 1]]),
  ];
}

function affine(config: Config): Tensor[] {
  const cameras = setting(config, "cameras", 1);
  return ["gain", "offset"].map((name) => ({ name, shape: [cameras, 3], group: 1 }));
}

/**
 * Compare the tensors that a network declares with those that its profile and configuration imply.
 *
 * @throws InvError damaged, limit; unsupported: an unknown profile or version
 */
export function checkProfile(network: Network): void {
  const { name, profile, version, config, tensors } = network;
  const imply = IMPLIED[profile];
  if (!imply || version !== 1) {
    throw new InvError("unsupported", `network ${name} has profile ${profile}, version ${version}, not known here`);
  }
  const text = (rows: Tensor[]) => JSON.stringify(rows.map((row) => [row.name, row.shape, row.group]));
  need(text(imply(config)) === text(tensors), "damaged", `network ${name} has other tensors than its profile implies`);
}
