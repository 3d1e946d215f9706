import assert from "node:assert/strict";
import { test } from "node:test";
import type { Camera } from "../src/container/head";
import { Clock } from "../src/page/clock";
import {
  add,
  approach,
  dot,
  type Eye,
  eyeOf,
  fitted,
  length,
  look,
  move,
  orbit,
  poseOf,
  type Vector,
} from "../src/page/eye";
import { hashOf, momentOf } from "../src/page/link";
import { distanceOf, middleOf, rigOf, start } from "../src/page/rig";
import { numbers } from "./numbers";

const UP: Vector = [0, 1, 0];
function close(a: readonly number[], b: readonly number[], within = 1e-9): void {
  for (const [i, value] of a.entries()) assert.ok(Math.abs(value - b[i]!) < within, `${a} is not ${b}`);
}
const centre = ({ position, back, distance }: Eye) => add(position, back, -distance);

/** A camera at a position that looks at the origin. */
function camera(x: number, z: number, more: Partial<Camera> = {}): Camera {
  const [sin, cos] = [x / Math.hypot(x, z), z / Math.hypot(x, z)];
  const pose = [cos, 0, sin, x, 0, 1, 0, 0, -sin, 0, cos, z];
  const lens = { k1: 0, k2: 0, k3: 0, k4: 0, k5: 0, k6: 0, p1: 0, p2: 0, s1: 0, s2: 0, s3: 0, s4: 0, fisheye: false };
  const sizes = { width: 640, height: 480, flX: 500, flY: 500, cx: 300, cy: 250 };
  return { name: `${x},${z}`, pose, near: null, far: null, heldOut: false, ...lens, ...sizes, ...more };
}

test("whatever a hand does, the eye's axes stay at right angles, and upright", () => {
  const random = numbers(5);
  let eye = eyeOf(camera(1, 3).pose, 3);
  for (let i = 0; i < 300; i++) {
    const [a, b] = [4 * random() - 2, 4 * random() - 2];
    eye = [
      () => orbit(eye, UP, a, b),
      () => look(eye, UP, a, b),
      () => move(eye, a, b, a),
      () => approach(eye, 1.1, 0.1),
    ][i % 4]!();
    close(
      [length(eye.right), length(eye.up), length(eye.back), dot(eye.right, eye.up), dot(eye.up, eye.back)],
      [1, 1, 1, 0, 0],
    );
    assert.ok(Math.abs(dot(eye.right, UP)) < 1e-9);
    assert.ok(dot(eye.up, UP) > 0.1);
  }
});

test("an orbit keeps what is looked at, and a look the position", () => {
  const eye = eyeOf(camera(1, 3).pose, 3);
  close(centre(orbit(eye, UP, 0.4, -0.2)), centre(eye));
  close(look(eye, UP, 0.4, -0.2).position, eye.position);
  close(centre(approach(eye, 0.5, 0)), centre(eye));
  close(eyeOf(poseOf(eye), 3).back, eye.back);
});

test("what is dragged to the right moves to the right", () => {
  const eye = eyeOf(camera(0, 3).pose, 3);
  // A point nearer than the one that is turned around; any point, on the spot.
  for (const [turned, point] of [
    [orbit(eye, UP, 0.2, 0), [0, 0, 0.5]],
    [look(eye, UP, 0.2, 0), [0, 0, 0]],
  ] as [Eye, Vector][]) {
    assert.ok(dot(add(point, turned.position, -1), turned.right) > 0.05);
  }
});

test("a camera's picture is in the middle of one of another shape", () => {
  const wide = fitted(camera(0, 3), 1920, 480);
  close([wide.flX, wide.flY, wide.cx - 960, wide.cy - 240], [500, 500, -20, 10]);
  const tall = fitted(camera(0, 3), 320, 960);
  close([tall.flX, tall.cx - 160, tall.cy - 480], [500, -20, 10]);
});

test("the distance is that to the point where the cameras' axes meet", () => {
  const rig = rigOf([camera(0, 4), camera(3, 3), camera(-2, 1)]);
  close([distanceOf(rig, rig.cameras[0]!)], [4]);
  const parallel = rigOf([camera(0, 4), { ...camera(0, 4), near: 2, far: 6 }]);
  close([distanceOf(parallel, parallel.cameras[1]!)], [3]);
});

test("the first view is a camera that is held out, the middle of a rig that faces one way, or the first camera", () => {
  const arc = [camera(-1, 4), camera(0, 4), camera(1, 4)];
  assert.equal(start(rigOf(arc)), null);
  close(
    middleOf(rigOf(arc)).pose.filter((_, i) => i % 4 < 3),
    [1, 0, 0, 0, 1, 0, 0, 0, 1],
  );
  assert.equal(start(rigOf([...arc, camera(0, 5, { heldOut: true })])), 3);
  assert.equal(start(rigOf([camera(0, 4), camera(4, 0), camera(0, -4)])), 0);
});

test("links keep a moment, and nonsense is no moment", () => {
  const pose = camera(1, 3).pose;
  const back = momentOf(hashOf({ time: 1.4, camera: null, pose }));
  assert.equal(back.time, 1.4);
  close(back.pose!, pose, 1e-5);
  assert.deepEqual(momentOf(hashOf({ time: 0, camera: "cam 1&2", pose })), { time: 0, camera: "cam 1&2", pose: null });
  for (const hash of ["", "#", "#t=soon&pose=1,2,3", `#pose=${"x,".repeat(12)}`, "#t=&pose=", "#t=Infinity"]) {
    assert.deepEqual(momentOf(hash), { time: null, camera: null, pose: null });
  }
});

test("a clock plays at its speed, waits for frames, loops, and stops at the end", () => {
  const clock = new Clock();
  const about = { start: 1, end: 2, waits: false, open: false };
  clock.time = 1;
  clock.advance(1000, about);
  assert.equal(clock.time, 1, "time stands still before it plays");
  clock.playing = true;
  clock.speed = 0.5;
  for (const now of [5000, 5400, 5800]) clock.advance(now, about);
  close([clock.time], [1.4]);
  clock.advance(9000, { ...about, waits: true });
  clock.advance(9200, about);
  close([clock.time], [1.5]);
  clock.loop = true;
  clock.advance(10_400, about);
  close([clock.time], [1.1]);
  clock.loop = false;
  clock.advance(20_000, { ...about, open: true });
  assert.ok(clock.playing && clock.time < 2, "more may come");
  clock.advance(30_000, about);
  assert.deepEqual([clock.playing, clock.time], [false, 2]);
});
