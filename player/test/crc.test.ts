import assert from "node:assert/strict";
import { test } from "node:test";
import zlib from "node:zlib";
import { crc32 } from "../src/container/crc";

test("the CRC is that of zlib", () => {
  const data = Uint8Array.from({ length: 1000 }, (_, i) => (i * i) >> 3);
  for (const size of [0, 1, 9, 1000]) assert.equal(crc32(data.subarray(0, size)), zlib.crc32(data.subarray(0, size)));
});
