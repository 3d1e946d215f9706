// From pixels to rays in march space (FORMAT.md, "From pixels to rays" and "Coordinate mapping").

import type { Camera } from "../container/head";
import type { Space } from "../field/space";

/** Values of the uniforms of the shader below. */
export interface RayUniforms {
  lens: number[];
  radial: number[];
  tangential: number[];
  prism: number[];
  fisheye: boolean;
  distorted: boolean;
  /** From the camera's axes to those of the space, scaled to the box if it has one; column by column. */
  turn: number[];
  /** From the camera's axes to those of the world; column by column. */
  pose: number[];
  /** The camera's position in the space. */
  eye: number[];
  low: number[];
  high: number[];
}

/**
 * Computed in double precision, as single precision would lose cameras that are far from the origin of the world.
 *
 * @param camera - with a size of the picture's and intrinsics for it.
 */
export function rayUniforms(camera: Camera, space: Space): RayUniforms {
  const axes = [0, 1, 2];
  const { pose: world } = camera;
  const { kind, pose: own, low, high } = space;
  // Position and size of the unit cube of `ndc` are those of the cameras' planes, not of a box.
  const size = axes.map((k) => (kind === "ndc" ? 1 : (high[k]! - low[k]!) / (kind === "contract" ? 2 : 1)));
  const corner = axes.map((k) => (kind === "ndc" ? 0 : low[k]! / size[k]! + (kind === "contract" ? 1 : 0)));
  const along = (row: number, vector: (k: number) => number): number =>
    axes.reduce((sum, k) => sum + own[4 * k + row]! * vector(k), 0) / size[row]!;
  const radial = [camera.k1, camera.k2, camera.k3, camera.k4, camera.k5, camera.k6];
  const tangential = [camera.p1, camera.p2];
  const prism = [camera.s1, camera.s2, camera.s3, camera.s4];
  return {
    lens: [camera.flX, camera.flY, camera.cx, camera.cy],
    radial,
    tangential,
    prism,
    fisheye: camera.fisheye,
    distorted: [...radial, ...tangential, ...prism].some((value) => value !== 0),
    turn: axes.flatMap((column) => axes.map((row) => along(row, (k) => world[4 * k + column]!))),
    pose: axes.flatMap((column) => axes.map((row) => world[4 * row + column]!)),
    eye: axes.map((row) => along(row, (k) => world[4 * k + 3]! - own[4 * k + 3]!) - corner[row]!),
    low,
    high: high.map((value) => (Number.isFinite(value) ? value : 0)),
  };
}

const LENS = `
uniform vec4 lens;
uniform float radial[6];
uniform vec2 tangential;
uniform vec4 prism;
uniform bool fisheye;
uniform bool distorted;

// The radial factor at a squared distance, and its derivative.
vec2 stretch(float r2) {
  if (fisheye) {
    return vec2(1.0 + r2 * (radial[0] + r2 * (radial[1] + r2 * (radial[2] + r2 * radial[3]))),
      radial[0] + r2 * (2.0 * radial[1] + r2 * (3.0 * radial[2] + r2 * 4.0 * radial[3])));
  }
  float above = 1.0 + r2 * (radial[0] + r2 * (radial[1] + r2 * radial[2]));
  float below = 1.0 + r2 * (radial[3] + r2 * (radial[4] + r2 * radial[5]));
  float slope = radial[0] + r2 * (2.0 * radial[1] + r2 * 3.0 * radial[2]);
  slope -= above / below * (radial[3] + r2 * (2.0 * radial[4] + r2 * 3.0 * radial[5]));
  return vec2(above, slope) / below;
}

vec2 undistort(vec2 to) {
  vec2 p = to;
  vec2 t = tangential;
  for (int i = 0; i < 10; i++) {
    float r2 = dot(p, p);
    vec2 s = stretch(r2);
    vec2 at = p * s.x + 2.0 * p.x * p.y * t + t.yx * (r2 + 2.0 * p * p) + r2 * (prism.xz + r2 * prism.yw);
    vec2 skew = 2.0 * (prism.xz + 2.0 * prism.yw * r2);
    float both = 2.0 * (p.x * p.y * s.y + t.x * p.x + t.y * p.y);
    float xx = s.x + 2.0 * p.x * p.x * s.y + 2.0 * t.x * p.y + 6.0 * t.y * p.x + p.x * skew.x;
    float yy = s.x + 2.0 * p.y * p.y * s.y + 6.0 * t.x * p.y + 2.0 * t.y * p.x + p.y * skew.y;
    float xy = both + p.y * skew.x;
    float yx = both + p.x * skew.y;
    vec2 rest = to - at;
    p += vec2(yy * rest.x - xy * rest.y, xx * rest.y - yx * rest.x) / (xx * yy - xy * yx);
  }
  return p;
}

// Through a point of the picture, in the camera's axes, one unit of z-depth long.
vec3 look(vec2 point) {
  vec2 p = (point - lens.zw) / lens.xy;
  if (distorted) p = undistort(p);
  if (fisheye) {
    float angle = max(length(p), 1e-9);
    p *= tan(min(angle, 1.5)) / angle;
  }
  return vec3(p.x, -p.y, -1.0);
}
`;

const RAY = `
uniform mat3 turn;
uniform mat3 pose;
uniform vec3 eye;
uniform vec3 low;
uniform vec3 high;

// A ray in march space: the point at s is that of start + travel(s) * extent, and z-depth is depth.x + reach(s) * depth.y.
struct Ray { vec3 start; vec3 extent; vec2 depth; };
`;

// Of each kind of space: the ray of a direction in the camera's axes; what of s goes along the ray, and back; from there
// to the unit cube; z-depth.
const KINDS: Record<Space["kind"], string> = {
  ndc: `
Ray enter(vec3 look) {
  vec3 d = turn * look;
  float w = min(d.z, -1e-4 * length(d));
  vec2 near = (eye.xy + ((-low.z - eye.z) / w) * d.xy) / low.z;
  vec2 far = high.z > 0.0 ? (eye.xy + ((-high.z - eye.z) / w) * d.xy) / high.z : d.xy / -w;
  vec2 side = high.xy - low.xy;
  vec3 start = vec3((near - low.xy) / side, 0.0);
  return Ray(start, vec3((far - low.xy) / side, 1.0) - start, vec2(-eye.z / w, -1.0 / w));
}
float travel(float s) { return s; }
float depthAt(Ray ray, float s) {
  float disparity = (1.0 - s) / low.z + (high.z > 0.0 ? s / high.z : 0.0);
  return ray.depth.x + ray.depth.y / disparity;
}
`,
  box: `
Ray enter(vec3 look) {
  vec3 d = turn * look;
  vec3 a = -eye / d;
  vec3 b = (1.0 - eye) / d;
  vec3 first = min(a, b);
  vec3 last = max(a, b);
  for (int k = 0; k < 3; k++) {
    if (d[k] == 0.0) {
      bool within = eye[k] >= 0.0 && eye[k] < 1.0;
      first[k] = within ? -1e30 : 1e30;
      last[k] = -first[k];
    }
  }
  float from = max(max(first.x, first.y), max(first.z, 0.0));
  float to = min(last.x, min(last.y, last.z));
  if (from >= to) return Ray(vec3(-1.0), vec3(0.0), vec2(0.0));
  return Ray(eye + from * d, (to - from) * d, vec2(from, to - from));
}
float travel(float s) { return s; }
float depthAt(Ray ray, float s) { return ray.depth.x + s * ray.depth.y; }
`,
  contract: `
Ray enter(vec3 look) {
  vec3 d = turn * look;
  float unit = 1.0 / length(d);
  float reach = max(abs(eye.x), max(abs(eye.y), abs(eye.z))) + 1.0;
  return Ray(eye + 0.05 * unit * d, reach * unit * d, vec2(0.05, reach) * unit);
}
float travel(float s) { return s < 0.5 ? 2.0 * s : 1.0 / (2.0 - 2.0 * s); }
float depthAt(Ray ray, float s) { return ray.depth.x + travel(min(s, 1.0 - 1e-6)) * ray.depth.y; }
`,
};

// Of spaces whose rays are straight in the unit cube, and of the others: the point at s; the range of s in the cube; the
// length of an interval of s; where the ray leaves a box of the cube that holds its point at s.
const STRAIGHT = `
vec3 pointAt(Ray ray, float s) { return ray.start + s * ray.extent; }
vec2 span(Ray ray) {
  vec3 a = -ray.start / ray.extent;
  vec3 b = (1.0 - ray.start) / ray.extent;
  vec3 within = mix(vec3(-1.0), vec3(1.0), equal(clamp(ray.start, 0.0, 1.0), ray.start));
  bvec3 still = equal(ray.extent, vec3(0.0));
  vec3 first = mix(min(a, b), -2.0 * within, still);
  vec3 last = mix(max(a, b), 2.0 * within, still);
  return vec2(max(max(first.x, first.y), max(first.z, 0.0)), min(min(last.x, last.y), min(last.z, 1.0)));
}
float lengthOf(Ray ray, float from, float to, float samples) { return length(ray.extent) * (to - from); }
float leave(Ray ray, float s, vec3 from, vec3 to) {
  vec3 ahead = mix(to, from, lessThan(ray.extent, vec3(0.0)));
  vec3 end = mix((ahead - ray.start) / ray.extent, vec3(2.0), equal(ray.extent, vec3(0.0)));
  return min(end.x, min(end.y, end.z));
}
`;
const CONTRACTED = `
vec3 contract(vec3 x) {
  vec3 a = abs(x);
  float m = max(a.x, max(a.y, a.z));
  if (m > 1.0) x = mix(x / m, sign(x) * (2.0 - 1.0 / m), equal(a, vec3(m)));
  return x * 0.25 + 0.5;
}
vec3 pointAt(Ray ray, float s) { return contract(ray.start + travel(s) * ray.extent); }
vec2 span(Ray ray) { return vec2(0.0, 1.0); }
float lengthOf(Ray ray, float from, float to, float samples) {
  return distance(pointAt(ray, min(to, 1.0 - 0.25 / samples)), pointAt(ray, max(from, 0.0)));
}
// The first of the places on a line a + t b at which it meets 0 from below; far away if there is none.
float meet(float a, float b) { return b > 0.0 ? -a / b : 1e30; }
float leave(Ray ray, float s, vec3 from, vec3 to) {
  vec3 e = ray.start;
  vec3 f = ray.extent;
  vec3 x = e + travel(s) * f;
  vec3 a = abs(x);
  float m = max(a.x, max(a.y, a.z));
  // Contracted coordinates from -2 to 2. Outside of the inner box, a point belongs to the side of the axis on which it is
  // farthest out; there, faces of the box are planes, through the origin if they are of the other axes.
  from = 4.0 * from - 2.0;
  to = 4.0 * to - 2.0;
  float end = 1e30;
  if (m <= 1.0) {
    for (int k = 0; k < 3; k++) end = min(end, min(meet(e[k] - min(to[k], 1.0), f[k]), meet(max(from[k], -1.0) - e[k], -f[k])));
  } else {
    int main = a.x == m ? 0 : a.y == m ? 1 : 2;
    float side = x[main] < 0.0 ? -1.0 : 1.0;
    float em = side * e[main];
    float fm = side * f[main];
    float near = side > 0.0 ? from[main] : -to[main];
    float far = side > 0.0 ? to[main] : -from[main];
    end = meet(1.0 / (2.0 - max(near, 1.0)) - em, -fm);
    if (far < 2.0) end = min(end, meet(em - 1.0 / (2.0 - max(far, 1.0)), fm));
    for (int k = 0; k < 3; k++) {
      if (k == main) continue;
      float high = min(to[k], 1.0);
      float low = max(from[k], -1.0);
      end = min(end, min(meet(e[k] - high * em, f[k] - high * fm), meet(low * em - e[k], low * fm - f[k])));
    }
  }
  return end < 1.0 ? 0.5 * end : 1.0 - 0.5 / end;
}
`;

/** GLSL: `look`, `enter`, `span`, `pointAt`, `lengthOf`, `leave`, `depthAt`. */
export function rayShader(kind: Space["kind"]): string {
  return LENS + RAY + KINDS[kind] + (kind === "contract" ? CONTRACTED : STRAIGHT);
}
