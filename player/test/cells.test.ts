import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkState } from "../src/field/frame";
import { BLOCK, blocksOf, gaps } from "../src/render/cells";
import { Table } from "../src/render/table";
import { numbers } from "./numbers";

const state = (occupancy: Uint8Array | null, tensors: [string, Float32Array][] = []): NetworkState => ({
  tensors: new Map(tensors),
  occupancy,
  changed: new Map(),
});

test("gaps are distances to the nearest block that is not empty", () => {
  const random = numbers(1);
  const side = 22;
  const count = blocksOf(side);
  const owners = Uint8Array.from({ length: side ** 3 }, () => Number(random() < 0.0008));
  const found = gaps(state(owners), side);
  const places = Array.from({ length: count ** 3 }, (_, i) => [
    Math.floor(i / count ** 2),
    Math.floor(i / count) % count,
    i % count,
  ]);
  const near = places.filter((place) => {
    for (let i = 0; i < owners.length; i++) {
      const cell = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
      if (owners[i] && cell.every((at, k) => Math.floor(at / BLOCK) === place[k])) return true;
    }
    return false;
  });
  assert.ok(near.length > 3);
  places.forEach((place, i) => {
    const distances = near.map((other) => Math.max(...other.map((at, k) => Math.abs(at - place[k]!))));
    assert.equal(found[i], Math.min(...distances));
  });
});

test("every place that a part has moved to is in a block that is not empty", () => {
  const random = numbers(2);
  const side = 16;
  const count = blocksOf(side);
  for (let round = 0; round < 20; round++) {
    const owners = new Uint8Array(side ** 3);
    for (let i = 0; i < 6; i++) owners[Math.floor(random() * owners.length)] = 2;
    const motion = Float32Array.from({ length: 12 }, () => 0.5 * (random() - 0.5));
    const found = gaps(state(owners, [["motion", motion]]), side);
    for (let i = 0; i < 4000; i++) {
      const x = [random(), random(), random()];
      const y = x.map((at, k) => {
        const row = motion.subarray(4 * k, 4 * k + 4);
        return at + row[0]! * (x[0]! - 0.5) + row[1]! * (x[1]! - 0.5) + row[2]! * (x[2]! - 0.5) + row[3]!;
      });
      const cell = y.map((at) => Math.floor(at * side));
      if (cell.some((at) => at < 0 || at >= side) || !owners[(cell[0]! * side + cell[1]!) * side + cell[2]!]) continue;
      const [a, b, c] = x.map((at) => Math.floor((at * side) / BLOCK));
      assert.equal(found[(a! * count + b!) * count + c!], 0);
    }
  }
});

test("a part that is flattened to a plane may be anywhere", () => {
  const owners = new Uint8Array(512);
  owners[7] = 2;
  const motion = new Float32Array(12);
  motion[0] = -1;
  assert.ok(gaps(state(owners, [["motion", motion]]), 8).every((gap) => gap === 0));
});

test("a table uploads the rows that changed and no others", () => {
  const random = numbers(3);
  const table = new Table("n0", [3, 20, 40], 3, 12);
  const sizes = [4 ** 3, 2 ** 12, 2 ** 12];
  const held = new Float32Array(2 * table.width * table.rows);
  const write = (network: NetworkState, all: boolean): number => {
    let values = 0;
    for (const patch of table.patches(network, all)) {
      assert.equal(patch.values.length, 2 * patch.width * patch.rows);
      assert.ok(patch.rows === 1 || patch.width === table.width);
      held.set(patch.values, 2 * table.width * patch.row);
      values += patch.values.length;
    }
    return values;
  };
  const network = state(
    null,
    sizes.map((size, i) => [`grid.${i}`, Float32Array.from({ length: 2 * size }, random)]),
  );
  write(network, true);
  const before = held.slice();
  const values = network.tensors.get("grid.1")!;
  const ranges: [number, number][] = [
    [0, 1],
    [5, 700],
    [3000, 3001],
    [values.length - 1, values.length],
  ];
  for (const [from, to] of ranges) values.fill(2, from, to);
  network.changed.set("grid.1", ranges);
  const written = write(network, false);
  assert.ok(written <= 4 * 2 * table.width, `${written}`);
  const kept = held.slice();
  write(network, true);
  assert.deepEqual(kept, held);
  assert.notDeepEqual(kept, before);
});
