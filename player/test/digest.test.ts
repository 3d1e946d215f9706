import assert from "node:assert/strict";
import { test } from "node:test";
import { Digest } from "../src/coding/digest";

const MASK = 2n ** 64n - 1n;

/** The same in arithmetic of any length. */
function slow(numbers: [number, number][]): bigint {
  return numbers.reduce((sum, [n, value]) => {
    let z = (BigInt(n) * 0x9e3779b97f4a7c15n) & MASK;
    z = ((z ^ (z >> 32n)) * 0xd6e8feb86659fd93n) & MASK;
    return (sum + ((z ^ (z >> 32n)) | 1n) * BigInt(value)) & MASK;
  }, 0x9e3779b97f4a7c15n);
}

test("the digest is that of arithmetic of any length", () => {
  const numbers: [number, number][] = [];
  for (let i = 1; i < 10_000; i++) numbers.push([(i * i * 13) % 2 ** 27, ((i * 7919 * 7919) % 2 ** 26) - 2 ** 25]);
  numbers.push([1, 2 ** 25 - 1], [2 ** 27 + 2048, -(2 ** 25) + 1], [2 ** 27, 1 - 2 ** 24]);
  const digest = new Digest();
  for (const [n, value] of numbers) digest.add(n, value);
  assert.equal(new DataView(digest.bytes().buffer).getBigUint64(0, true), slow(numbers));
});
