/** What the cameras of a file tell about its scene: where to begin, what is up, how large things are. */

import type { Camera } from "../container/head";
import { add, column, cross, dot, length, scale, unit, type Vector } from "./eye";

/** A rig faces forward if every camera looks within 60 degrees of the average direction. */
const FORWARD = 0.5;

export interface Rig {
  cameras: Camera[];
  /** A unit vector. */
  up: Vector;
  /** Distance of the outermost camera from the middle of the rig. */
  spread: number;
}

const mean = (vectors: Vector[]): Vector =>
  scale(
    vectors.reduce((a, b) => add(a, b), [0, 0, 0]),
    1 / vectors.length,
  );
const axes = (cameras: Camera[], k: number): Vector[] => cameras.map(({ pose }) => column(pose, k));

export function rigOf(cameras: Camera[]): Rig {
  const centres = axes(cameras, 3);
  const middle = mean(centres);
  const spread = Math.max(...centres.map((centre) => length(add(centre, middle, -1)))) || 1;
  return { cameras, up: unit(mean(axes(cameras, 1))), spread };
}

/**
 * The default view: the first camera that was kept from training; else the mean of the rig, as null if it faces one way
 * and the index of a camera otherwise.
 */
export function start({ cameras }: Rig): number | null {
  const held = cameras.findIndex(({ heldOut }) => heldOut);
  if (held >= 0) return held;
  const backs = axes(cameras, 2);
  const middle = mean(backs);
  return backs.every((back) => dot(back, middle) > FORWARD * length(middle)) ? null : 0;
}

/** The mean camera: mean position and direction, upright, with the intrinsics of the camera nearest to it. */
export function middleOf(rig: Rig): Camera {
  const position = mean(axes(rig.cameras, 3));
  const back = unit(mean(axes(rig.cameras, 2)));
  const right = unit(cross(rig.up, back));
  const away = (camera: Camera): number => length(add(column(camera.pose, 3), position, -1));
  const nearest = rig.cameras.reduce((a, b) => (away(b) < away(a) ? b : a));
  const up = cross(back, right);
  return { ...nearest, pose: [0, 1, 2].flatMap((k) => [right[k]!, up[k]!, back[k]!, position[k]!]) };
}

/**
 * Distance from a camera to what it looks at: as deep as the point nearest to the axes of all cameras or, where they are
 * parallel or meet outside of the scene, the harmonic mean of its bounds.
 */
export function distanceOf({ cameras, spread }: Rig, { pose, near, far }: Camera): number {
  const position = column(pose, 3);
  const back = column(pose, 2);
  // The depth t at which the point on the axis is nearest to all others: least squares in one unknown.
  let top = 0;
  let bottom = 0;
  for (const other of cameras) {
    const axis = unit(column(other.pose, 2));
    const off = (v: Vector): Vector => add(v, axis, -dot(v, axis));
    const across = off(scale(back, -1));
    top += dot(across, off(add(column(other.pose, 3), position, -1)));
    bottom += dot(across, across);
  }
  const depth = bottom > 1e-9 ? top / bottom : 0;
  if (depth > (near ?? 0.5 * spread) && depth < (far ?? 100 * spread)) return depth;
  return near && far ? 2 / (1 / near + 1 / far) : 3 * spread;
}

/** The nearest and the farthest depth of the scene, as far as they are known. */
export function depthsOf({ cameras, spread }: Rig): [number, number] {
  const known = (values: (number | null)[]): number[] => values.filter((value): value is number => Boolean(value));
  const near = Math.min(...known(cameras.map((camera) => camera.near)));
  const far = Math.max(...known(cameras.map((camera) => camera.far)));
  const from = Number.isFinite(near) ? near : 0.5 * spread;
  return [from, Math.max(Number.isFinite(far) ? far : 20 * from, 1.01 * from)];
}
