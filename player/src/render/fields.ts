// Profiles as GLSL: from a point of the unit cube to density and colour (FORMAT.md, "Profile 1", "2" and "4").

import type { Config, Network } from "../container/head";
import { GRID, IMAGE, NERF } from "../field/profiles";
import { apply, type Layers, quads, RELU, vectors } from "./layers";
import { Table } from "./table";

/**
 * A network's GLSL. With `p` as its prefix, it defines
 *
 * - `p_start(vec3 view)`: begins a ray;
 * - `p_density(vec3 at)`: the density at a point;
 * - `p_take(float weight)`: adds the features of that point;
 * - `p_picture(float opacity)`: the premultiplied colour of the ray.
 */
export interface Field {
  prefix: string;
  /** Index of the network in HEAD. */
  network: number;
  glsl: string;
  /** Entries of the grid; null if the profile has none. */
  table: Table | null;
  samples: number;
  importance: number;
  /** Cells of the occupancy along each axis; 0 if there is none. */
  occupancy: number;
  /** Parts that may move. */
  parts: number;
}

type Build = (prefix: string, network: number, config: Config, layers: Layers) => Field;

const setting = (config: Config, key: string): number => (config[key] as number) ?? 0;
const levelsOf = (config: Config): number[] => config.resolutions as number[];
const float = (value: number): string => (Number.isInteger(value) ? `${value}.0` : String(value));

/** Scalar expressions of the encoding of a vector with sines and cosines, and the GLSL that they need. */
function waves(name: string, axes: string, octaves: number): { glsl: string; scalars: string[] } {
  const type = `vec${axes.length}`;
  const each = (vector: string): string[] => [...axes].map((axis) => `${vector}.${axis}`);
  let glsl = "";
  const scalars = each(name);
  for (let k = 0; k < octaves; k++) {
    for (const f of ["sin", "cos"]) {
      glsl += `${type} ${name}_${f}${k} = ${f}(${float(2 ** k)} * ${name});\n`;
      scalars.push(...each(`${name}_${f}${k}`));
    }
  }
  return { glsl, scalars };
}

/** GLSL expressions of the lookups in all levels of a grid, two scalars each. */
function lookups(prefix: string, count: number): { glsl: string; scalars: string[] } {
  const levels = Array.from({ length: count }, (_, i) => i);
  return {
    glsl: levels.map((i) => `vec2 level${i} = ${prefix}_level${i}(at);\n`).join(""),
    scalars: levels.flatMap((i) => [`level${i}.x`, `level${i}.y`]),
  };
}

const SIGMOID = "1.0 / (1.0 + exp(-sum))";

const nerf: Build = (p, network, config, layers) => {
  const width = setting(config, "width");
  const octaves = setting(config, "direction_octaves");
  const place = waves("x", "xyz", setting(config, "position_octaves"));
  const view = waves("view", "xyz", octaves);
  const inputs = place.scalars.length;
  const hidden = Array.from({ length: setting(config, "depth") }, (_, i) =>
    layers.add(network, `layers.${i}`, width, i ? width : inputs),
  );
  const density = layers.add(network, "density", 1, width);
  const columns = width + view.scalars.length;
  const ofFeature = layers.add(network, "direction", width / 2, columns, { to: width, after: "feature" });
  const ofView = layers.add(network, "direction", width / 2, columns, { from: width });
  const rgb = layers.add(network, "rgb", 3, width / 2);
  const names = [`${p}_h`, `${p}_g`] as const;
  const last = names[(hidden.length + 1) % 2]!;
  const steps = hidden.map((layer, i) => apply(layer, i ? names[(i + 1) % 2]! : "input_", names[i % 2]!, RELU));
  return {
    prefix: p,
    network,
    table: null,
    samples: setting(config, "samples"),
    importance: setting(config, "importance"),
    occupancy: setting(config, "occupancy"),
    parts: 0,
    glsl: `
vec4 ${p}_h[${quads(width)}], ${p}_g[${quads(width)}], ${p}_seen[${quads(width / 2)}];
vec3 ${p}_sum;
void ${p}_start(vec3 view) {
  ${view.glsl}${vectors("input_", view.scalars)}
  ${apply(ofView, "input_", `${p}_seen`)}
  ${p}_sum = vec3(0.0);
}
float ${p}_density(vec3 at) {
  vec3 x = 2.0 * at - 1.0;
  ${place.glsl}${vectors("input_", place.scalars)}
  ${steps.join("\n")}
  vec4 raw[1];
  ${apply(density, last, "raw")}
  return max(raw[0].x, 0.0);
}
void ${p}_take(float weight) {
  vec4 seen[${quads(width / 2)}];
  ${apply(ofFeature, last, "seen", RELU, `${p}_seen[i] + weights(at)`)}
  vec4 colour[1];
  ${apply(rgb, "seen", "colour", SIGMOID)}
  ${p}_sum += weight * colour[0].xyz;
}
vec3 ${p}_picture(float opacity) { return ${p}_sum; }
`,
  };
};

const HARMONICS = [
  "0.28209479",
  "-0.48860251 * v.y",
  "0.48860251 * v.z",
  "-0.48860251 * v.x",
  "1.09254843 * v.x * v.y",
  "-1.09254843 * v.y * v.z",
  "0.94617470 * v.z * v.z - 0.31539157",
  "-1.09254843 * v.x * v.z",
  "0.54627422 * (v.x * v.x - v.y * v.y)",
];

const grid: Build = (p, network, config, layers) => {
  const resolutions = levelsOf(config);
  const table = new Table(p, resolutions, 3, setting(config, "log2_table"));
  const hidden = setting(config, "hidden");
  const features = setting(config, "features");
  const colour = setting(config, "colour_hidden");
  const columns = features + HARMONICS.length;
  const density0 = layers.add(network, "density.0", hidden, 2 * resolutions.length);
  const density1 = layers.add(network, "density.1", 1 + features, hidden);
  // The first of the outputs is density, so sums of features begin at the second entry.
  const ofFeatures = layers.add(network, "colour.0", colour, columns, { to: features, skip: 1 });
  const ofView = layers.add(network, "colour.0", colour, columns, { from: features });
  const colour1 = layers.add(network, "colour.1", colour, colour);
  const colour2 = layers.add(network, "colour.2", 3, colour);
  const levels = lookups(p, resolutions.length);
  const outputs = quads(1 + features);
  return {
    prefix: p,
    network,
    table,
    samples: setting(config, "samples"),
    importance: 0,
    occupancy: setting(config, "occupancy"),
    parts: setting(config, "parts"),
    glsl: `
${table.glsl}
vec4 ${p}_out[${outputs}], ${p}_sum[${outputs}];
vec3 ${p}_view;
void ${p}_start(vec3 view) {
  ${p}_view = view;
  for (int i = 0; i < ${outputs}; i++) ${p}_sum[i] = vec4(0.0);
}
float ${p}_density(vec3 at) {
  ${levels.glsl}${vectors("x", levels.scalars)}
  vec4 h[${quads(hidden)}];
  ${apply(density0, "x", "h", RELU)}
  ${apply(density1, "h", `${p}_out`)}
  return exp(min(${p}_out[0].x, 12.0));
}
void ${p}_take(float weight) {
  for (int i = 0; i < ${outputs}; i++) ${p}_sum[i] += weight * ${p}_out[i];
}
vec3 ${p}_picture(float opacity) {
  ${p}_sum[0].x = 0.0;
  vec3 v = ${p}_view;
  ${vectors("y", HARMONICS)}
  vec4 seen[${quads(colour)}], a[${quads(colour)}], b[${quads(colour)}], c[1];
  ${apply(ofView, "y", "seen")}
  ${apply(ofFeatures, `${p}_sum`, "a", RELU, "seen[i]")}
  ${apply(colour1, "a", "b", RELU)}
  ${apply(colour2, "b", "c")}
  return opacity / (1.0 + exp(-(${p}_sum[0].yzw + c[0].xyz)));
}
`,
  };
};

const image: Build = (p, network, config, layers) => {
  const resolutions = levelsOf(config);
  const table = new Table(p, resolutions, 2, 0);
  const width = setting(config, "width");
  const place = waves("x", "xy", setting(config, "octaves"));
  const levels = lookups(p, resolutions.length);
  const inputs = [...place.scalars, ...levels.scalars];
  const hidden = Array.from({ length: setting(config, "depth") }, (_, i) =>
    layers.add(network, `layers.${i}`, width, i ? width : inputs.length),
  );
  const rgb = layers.add(network, "rgb", 3, width);
  const names = ["h", "g"] as const;
  const steps = hidden.map((layer, i) => apply(layer, i ? names[(i + 1) % 2]! : "input_", names[i % 2]!, RELU));
  return {
    prefix: p,
    network,
    table: resolutions.length ? table : null,
    samples: 1,
    importance: 0,
    occupancy: 0,
    parts: 0,
    glsl: `
${resolutions.length ? table.glsl : ""}
vec3 ${p}_at, ${p}_sum;
void ${p}_start(vec3 view) { ${p}_sum = vec3(0.0); }
float ${p}_density(vec3 at) { ${p}_at = at; return 100.0; }
void ${p}_take(float weight) {
  vec3 at = ${p}_at;
  vec2 x = 2.0 * at.xy - 1.0;
  ${place.glsl}${levels.glsl}${vectors("input_", inputs)}
  vec4 h[${quads(width)}], g[${quads(width)}], colour[1];
  ${steps.join("\n")}
  ${apply(rgb, names[(hidden.length + 1) % 2]!, "colour", SIGMOID)}
  ${p}_sum += weight * colour[0].xyz;
}
vec3 ${p}_picture(float opacity) { return ${p}_sum; }
`,
  };
};

const PROFILES: Record<number, Build> = { [NERF]: nerf, [GRID]: grid, [IMAGE]: image };

/** The field of a network, whose layers are added to those of the picture. */
export function buildField(prefix: string, network: number, declared: Network, layers: Layers): Field {
  return PROFILES[declared.profile]!(prefix, network, declared.config, layers);
}
