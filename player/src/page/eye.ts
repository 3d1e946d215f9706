/** Where the viewer is and how they move: around a point, freely, or on the spot of one of the cameras. */

import type { Camera } from "../container/head";

export type Vector = readonly [number, number, number];

export const add = (a: Vector, b: Vector, k = 1): Vector => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
export const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const scale = (a: Vector, k: number): Vector => [a[0] * k, a[1] * k, a[2] * k];
export const length = (a: Vector): number => Math.hypot(...a);
export const unit = (a: Vector): Vector => scale(a, 1 / (length(a) || 1));

/** Rotation about a unit vector (Rodrigues). */
export function turn(v: Vector, axis: Vector, angle: number): Vector {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return add(add(scale(v, c), cross(axis, v), s), axis, dot(axis, v) * (1 - c));
}

/** A column of a pose, which has 3 rows of 4. */
export const column = (pose: readonly number[], k: number): Vector => [pose[k]!, pose[4 + k]!, pose[8 + k]!];

/** A viewer: the axes of a camera, which looks along -back, and how far away the point is that it turns around. */
export interface Eye {
  readonly position: Vector;
  readonly right: Vector;
  readonly up: Vector;
  readonly back: Vector;
  readonly distance: number;
}

export function eyeOf(pose: readonly number[], distance: number): Eye {
  const [right, up, back, position] = [0, 1, 2, 3].map((k) => column(pose, k)) as [Vector, Vector, Vector, Vector];
  return { position, right: unit(right), up: unit(up), back: unit(back), distance };
}

/** Camera to world, 3 rows of 4. */
export function poseOf({ right, up, back, position }: Eye): number[] {
  return [0, 1, 2].flatMap((k) => [right[k]!, up[k]!, back[k]!, position[k]!]);
}

/** How far up and down one can look, in radians. */
const STEEPEST = 1.4;

function rotated(eye: Eye, up: Vector, yaw: number, pitch: number): Eye {
  const steep = Math.asin(Math.min(Math.max(dot(eye.back, up), -1), 1));
  const most = Math.max(STEEPEST, Math.abs(steep));
  const tilt = steep - Math.min(Math.max(steep - pitch, -most), most);
  const all = (v: Vector): Vector => turn(turn(v, eye.right, tilt), up, yaw);
  const back = unit(all(eye.back));
  const right = unit(add(all(eye.right), back, -dot(all(eye.right), back)));
  return { ...eye, back, right, up: cross(back, right) };
}

/**
 * Turn around the point that is looked at.
 *
 * @param up of the scene, a unit vector
 * @param yaw in radians, to the right, and `pitch`, downwards: of what is seen
 */
export function orbit(eye: Eye, up: Vector, yaw: number, pitch: number): Eye {
  const centre = add(eye.position, eye.back, -eye.distance);
  const turned = rotated(eye, up, -yaw, -pitch);
  return { ...turned, position: add(centre, turned.back, eye.distance) };
}

/** Turn on the spot; what is seen follows the hand, as in `orbit`. */
export const look = (eye: Eye, up: Vector, yaw: number, pitch: number): Eye => rotated(eye, up, yaw, pitch);

/** Move along the own axes: to the right, upwards, backwards. */
export function move(eye: Eye, right: number, up: number, back: number): Eye {
  return { ...eye, position: add(add(add(eye.position, eye.right, right), eye.up, up), eye.back, back) };
}

/** Come closer to the point that is looked at, or go away from it, by a factor of the distance. */
export function approach(eye: Eye, factor: number, nearest: number): Eye {
  const distance = Math.max(eye.distance * factor, nearest);
  return { ...eye, distance, position: add(eye.position, eye.back, distance - eye.distance) };
}

/**
 * Intrinsics of a camera for a picture of another size: the camera's own picture is in the middle and fits the height
 * or, in an upright picture, at least its middle half fits the width.
 */
export function fitted(camera: Camera, width: number, height: number): Camera {
  const scale = Math.min(height / camera.height, (2 * width) / camera.width);
  return {
    ...camera,
    width,
    height,
    flX: camera.flX * scale,
    flY: camera.flY * scale,
    cx: width / 2 + (camera.cx - camera.width / 2) * scale,
    cy: height / 2 + (camera.cy - camera.height / 2) * scale,
  };
}

/** A camera without lens distortion that sees what `base` sees, from another pose. */
export function pinhole(base: Camera, pose: number[]): Camera {
  const zero = { k1: 0, k2: 0, k3: 0, k4: 0, k5: 0, k6: 0, p1: 0, p2: 0, s1: 0, s2: 0, s3: 0, s4: 0 };
  return { ...base, ...zero, fisheye: false, cx: base.width / 2, cy: base.height / 2, pose };
}
