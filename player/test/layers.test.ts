import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkState } from "../src/field/frame";
import { Layers } from "../src/render/layers";
import { numbers } from "./numbers";

const [OUTPUTS, INNER, MORE] = [6, 8, 3];

test("a layer that is multiplied into the next one gives what the two give, of every frame", () => {
  const random = numbers(3);
  const tensor = (size: number) => Float32Array.from({ length: size }, () => 2 * random() - 1);
  const network: NetworkState = {
    tensors: new Map([
      ["feature.weight", tensor(INNER * INNER)],
      ["feature.bias", tensor(INNER)],
      ["direction.weight", tensor(OUTPUTS * (INNER + MORE))],
      ["direction.bias", tensor(OUTPUTS)],
    ]),
    occupancy: null,
    changed: new Map(),
  };
  const layers = new Layers();
  layers.add(0, "direction", OUTPUTS, INNER + MORE, { to: INNER, after: "feature" });
  const packed = new Float32Array(4 * layers.size);
  const input = tensor(INNER);

  const check = (): void => {
    layers.pack([network], packed);
    const [weight, bias, next] = ["feature.weight", "feature.bias", "direction.weight"].map(
      (name) => network.tensors.get(name)!,
    ) as [Float32Array, Float32Array, Float32Array];
    const inner = Array.from(bias, (sum, k) => input.reduce((all, x, i) => all + x * weight[k * INNER + i]!, sum));
    for (let row = 0; row < OUTPUTS; row++) {
      const wanted = inner.reduce((all, x, k) => all + x * next[row * (INNER + MORE) + k]!, 0);
      const first = 4 * (row >> 2) * (1 + INNER) + (row & 3);
      const found = input.reduce((all, x, i) => all + x * packed[first + 4 * (1 + i)]!, packed[first]!);
      assert.ok(Math.abs(found - wanted) < 1e-5, `row ${row}: ${found} is not ${wanted}`);
    }
  };

  check();
  for (const name of network.tensors.keys()) {
    network.tensors.set(name, tensor(network.tensors.get(name)!.length));
    network.changed = new Map([[name, [[0, 1]]]]);
    check();
  }
});
