// Samples along a ray, and what they add up to (FORMAT.md, "Sampling" and "Compositing").

import { BLOCK } from "./cells";
import type { Field } from "./fields";

/** GLSL of `prefix_next`: the first sample from k on that is used, and where its field is evaluated. */
function cells(field: Field): string {
  const { prefix: p, occupancy: side, parts } = field;
  if (!side) {
    return `
bool ${p}_uses(vec3 point, out vec3 at) { at = point; return inside(point); }
int ${p}_next(Ray ray, int k, int last, int samples, out vec3 at) {
  at = pointAt(ray, (float(k) + 0.5) / float(samples));
  return k;
}
`;
  }
  const uniforms = `
uniform highp usampler3D ${p}_cells;
uniform highp usampler3D ${p}_gaps;
${parts ? `uniform vec4 ${p}_motion[${3 * parts}];` : ""}
ivec3 ${p}_cell(vec3 point) { return clamp(ivec3(point * ${side}.0), 0, ${side - 1}); }
uint ${p}_owner(ivec3 cell) { return texelFetch(${p}_cells, cell.zyx, 0).x; }
`;
  const ofParts = `
  for (int part = 0; part < ${parts}; part++) {
    vec4 from = vec4(point - 0.5, 1.0);
    at = point + vec3(dot(${p}_motion[3 * part], from), dot(${p}_motion[3 * part + 1], from), dot(${p}_motion[3 * part + 2], from));
    if (inside(at) && ${p}_owner(${p}_cell(at)) == uint(part + 2)) return true;
  }`;
  const uses = `
bool ${p}_uses(vec3 point, out vec3 at) {
  if (!inside(point)) return false;${parts ? ofParts : ""}
  at = point;
  return ${p}_owner(${p}_cell(point)) == 1u;
}
`;
  // A cell that is empty is left at once, unless a part may have moved into it.
  const step = parts
    ? "k++;"
    : `vec3 corner = vec3(cell);
    k = skip(k, leave(ray, s, corner / ${side}.0, (corner + 1.0) / ${side}.0), samples);`;
  return `${uniforms}${uses}
int ${p}_next(Ray ray, int k, int last, int samples, out vec3 at) {
  while (k < last) {
    float s = (float(k) + 0.5) / float(samples);
    vec3 point = pointAt(ray, s);
    ivec3 cell = ${p}_cell(point);
    int gap = int(texelFetch(${p}_gaps, (cell / ${BLOCK}).zyx, 0).x);
    looked++;
    if (gap > 0) {
      vec3 block = vec3(cell / ${BLOCK});
      float size = ${BLOCK}.0 / ${side}.0;
      k = skip(k, leave(ray, s, (block - float(gap - 1)) * size, (block + float(gap)) * size), samples);
      continue;
    }
    if (${p}_uses(point, at)) return k;
    ${step}
  }
  return last;
}
`;
}

const COMMON = `
const float NONE = 2.0;
int looked;
bool inside(vec3 point) { return all(greaterThanEqual(point, vec3(0.0))) && all(lessThan(point, vec3(1.0))); }
int skip(int k, float s, int samples) { return max(k + 1, int(ceil(min(s, 1.0) * float(samples) - 0.5))); }

// What a ray has met: light left, s of its median depth or NONE, samples evaluated.
struct March { float left; float median; int taken; };
float absorb(inout March march, float s, float density, float span) {
  float through = exp(-density * span);
  float weight = march.left * (1.0 - through);
  float left = march.left * through;
  if (march.left >= 0.5 && left < 0.5) march.median = s;
  march.left = left;
  march.taken++;
  return weight;
}
`;

/** The samples of equal steps, those in empty space skipped. */
function even(field: Field, samples: number): string {
  const p = field.prefix;
  return `
March trace(Ray ray, vec3 view) {
  March march = March(1.0, NONE, 0);
  ${p}_start(view);
  vec2 range = span(ray);
  int last = int(ceil(range.y * ${samples}.0 - 0.5));
  int k = int(ceil(range.x * ${samples}.0 - 0.5));
  vec3 at;
  while (march.left > 1e-3) {
    k = ${p}_next(ray, k, last, ${samples}, at);
    if (k >= last) break;
    float s = (float(k) + 0.5) / ${samples}.0;
    float density = ${p}_density(at);
    float weight = absorb(march, s, density, lengthOf(ray, s - 0.5 / ${samples}.0, s + 0.5 / ${samples}.0, ${samples}.0));
    ${p}_take(weight);
    k++;
  }
  return march;
}
`;
}

/** Samples of equal steps through the guide, whose weights place more of them. */
function guided(guide: Field, shown: Field): string {
  const [g, p] = [guide.prefix, shown.prefix];
  const [even, more] = [guide.samples, shown.importance];
  return `
float shares[${even}];
float guide(Ray ray) {
  March march = March(1.0, NONE, 0);
  float sum = 0.0;
  vec3 at;
  for (int k = 0; k < ${even}; k++) {
    float s = (float(k) + 0.5) / ${even}.0;
    float weight = 0.0;
    if (march.left > 1e-3 && ${g}_uses(pointAt(ray, s), at)) {
      weight = absorb(march, s, ${g}_density(at), lengthOf(ray, s - 0.5 / ${even}.0, s + 0.5 / ${even}.0, ${even}.0));
    }
    shares[k] = weight + 1e-5;
    sum += shares[k];
  }
  return sum;
}

// The next of all samples in order: of equal steps, k of which are taken; and additional ones, j of which are.
struct Place { int k; int j; int interval; float before; float sum; };
float place(inout Place at) {
  float step = at.k < ${even} ? (float(at.k) + 0.5) / ${even}.0 : NONE;
  float extra = NONE;
  if (at.j < ${more}) {
    float wanted = (float(at.j) + 0.5) / ${more}.0 * at.sum;
    while (at.interval < ${even - 1} && at.before + shares[at.interval] < wanted) at.before += shares[at.interval++];
    extra = (float(at.interval) + clamp((wanted - at.before) / shares[at.interval], 0.0, 1.0)) / ${even}.0;
  }
  if (step <= extra) at.k++;
  else at.j++;
  return min(step, extra);
}

March trace(Ray ray, vec3 view) {
  ${g}_start(view);
  Place next = Place(0, 0, 0, 0.0, guide(ray));
  ${p}_start(view);
  March march = March(1.0, NONE, 0);
  vec3 at;
  float low = 0.0;
  float s = place(next);
  for (int n = 1; n <= ${even + more} && march.left > 1e-3; n++) {
    float following = n < ${even + more} ? place(next) : NONE;
    float high = n < ${even + more} ? 0.5 * (s + following) : 1.0;
    if (${p}_uses(pointAt(ray, s), at)) {
      ${p}_take(absorb(march, s, ${p}_density(at), lengthOf(ray, low, high, ${even + more}.0)));
    }
    low = high;
    s = following;
  }
  return march;
}
`;
}

/** GLSL of `trace`, which composites a ray through the shown network's field. */
export function marchShader(guide: Field, shown: Field): string {
  const fields = [...new Set([guide, shown])].map((field) => cells(field) + field.glsl).join("");
  return COMMON + fields + (shown.importance > 0 ? guided(guide, shown) : even(shown, guide.samples));
}
