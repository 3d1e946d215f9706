import assert from "node:assert/strict";
import { test } from "node:test";
import { Real, unpack, unpackFirst } from "../src/container/canonical";

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (each) => Number.parseInt(each, 16));

test("values have the types that they are written with", () => {
  assert.deepEqual(unpack(bytes("9701cb3ff0000000000000cfffffffffffffffffd180a0c0c3c400"), "it"), [
    1,
    new Real(1),
    2n ** 64n - 1n,
    // -32768 + 160: d1 80a0
    -32608,
    null,
    true,
    new Uint8Array(0),
  ]);
  assert.deepEqual(unpack(bytes("81a3efbbbf80"), "it"), new Map([["\ufeff", new Map()]]));
});

test("another spelling of a value is refused", () => {
  const longer = [
    "cc7f",
    "cdffff00",
    "cd00ff",
    "ce0000ffff",
    "cf00000000ffffffff",
    "d0e0",
    "d1ff80",
    "d2ffff8000",
    "d3ffffffff80000000",
  ];
  const lengths = [
    "d91f",
    "da00ff",
    "db0000ffff",
    "c500ff",
    "c60000ffff",
    "dc000f",
    "dd0000ffff",
    "de000f",
    "df0000ffff",
  ];
  const others = [
    "ca3f800000",
    "c1",
    "d40000",
    "cb7ff8000000000000",
    "cb7ff0000000000000",
    "8101c0",
    "82a161c0a161c0",
    "a1ff",
    "c0c0",
    "",
  ];
  for (const each of [...longer, ...lengths, ...others]) {
    assert.throws(
      () => unpack(bytes(each + (lengths.includes(each) ? "00".repeat(70000) : "")), "it"),
      { kind: "damaged" },
      each,
    );
  }
});

test("nesting and size are limited", () => {
  unpack(bytes(`${"91".repeat(32)}c0`), "it");
  assert.throws(() => unpack(bytes(`${"91".repeat(33)}c0`), "it"), { kind: "damaged", message: /nested/ });
  assert.deepEqual(unpackFirst(bytes("92c0c005"), "it", 3), [[null, null], 3]);
  assert.throws(() => unpackFirst(bytes("92c0c005"), "it", 2), { kind: "limit" });
  assert.throws(() => unpackFirst(bytes("93c0c0"), "it", 9), { kind: "damaged" });
  // A length that nothing backs takes no memory.
  assert.throws(() => unpack(bytes("ddffffffff"), "it"), { kind: "damaged" });
});
