/** Files on servers of all kinds. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Catalogue } from "../src/container/catalogue";
import { Video } from "../src/index";
import { ended, play } from "./play";

/** A keyframe and 1025 deltas. */
const FILE = readFileSync(new URL("../../spec/vectors/valid/long/input.inv", import.meta.url));
const WHOLE = (await play(new Blob([FILE]), [0, 500, 1025])) as { frames: unknown[] };

type Handler = (request: http.IncomingMessage, answer: http.ServerResponse, count: number) => void;

/** Run something with the address of a server; its handler knows how many requests came before. */
async function serving(handler: Handler, use: (url: string) => Promise<void>): Promise<void> {
  let count = 0;
  const server = http.createServer((request, answer) => handler(request, answer, count++)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/clip.inv`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Send a range, as if the file were of another size in all. */
function sendRange(request: http.IncomingMessage, answer: http.ServerResponse, headers: object, size: number): void {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!.map(Number) as [number, number, number];
  const end = Math.min(to + 1, size);
  answer.writeHead(206, { "Content-Range": `bytes ${from}-${end - 1}/${size}`, ...headers });
  answer.end(Buffer.concat([FILE, Buffer.alloc(size - FILE.length)]).subarray(from, end));
}

test("a small file takes one request", async () => {
  await serving(
    (request, answer) => sendRange(request, answer, {}, FILE.length),
    async (url) => {
      const { frames, traffic } = (await play(url, [0, 500, 1025])) as { frames: unknown[]; traffic: unknown };
      assert.deepEqual(frames, WHOLE.frames);
      assert.deepEqual(traffic, { requests: 1, bytes: FILE.length });
    },
  );
});

test("a server without ranges sends the file once", async () => {
  await serving(
    (_, answer) => answer.end(FILE),
    async (url) => {
      const { frames, traffic } = (await play(url, [0, 500, 1025])) as { frames: unknown[]; traffic: unknown };
      assert.deepEqual(frames, WHOLE.frames);
      assert.deepEqual(traffic, { requests: 1, bytes: FILE.length });
    },
  );
});

test("a server that hides how long the file is sends it whole", async () => {
  await serving(
    (request, answer) => (request.headers.range ? answer.writeHead(206).end(FILE.subarray(0, 9)) : answer.end(FILE)),
    async (url) => assert.deepEqual(((await play(url, [0, 500, 1025])) as typeof WHOLE).frames, WHOLE.frames),
  );
});

test("frames play while the file is loading", async () => {
  let finish = () => {};
  await serving(
    (_, answer) => {
      answer.write(FILE.subarray(0, 20_000));
      finish = () => answer.end(FILE.subarray(20_000));
    },
    async (url) => {
      const video = await Video.open(url);
      while (video.entries.length < 100) await new Promise((resolve) => video.addEventListener("entries", resolve));
      assert.equal((await video.frame(99)).number, 99);
      assert.equal(video.ending, null);
      finish();
      await ended(video);
      assert.equal(video.entries.length, 1026);
      assert.equal((await video.frame(1025)).number, 1025);
      video.close();
    },
  );
});

test("a busy server is asked again, and one that has no such file is not", async () => {
  await serving(
    (_, answer, count) => (count === 0 ? answer.writeHead(503).end() : answer.end(FILE)),
    async (url) => assert.deepEqual(((await play(url, [0])) as typeof WHOLE).frames, WHOLE.frames.slice(0, 1)),
  );
  let asked = 0;
  await serving(
    (_, answer) => answer.writeHead(404, "Not Found", { asked: `${++asked}` }).end(),
    async (url) =>
      assert.rejects(Video.open(url), { kind: "network", message: `${url}: the server answers 404 Not Found` }),
  );
  assert.equal(asked, 1);
});

test("a file that changes between two requests is refused", async () => {
  await serving(
    (request, answer, count) => sendRange(request, answer, { ETag: `"${count}"` }, 2 ** 18),
    async (url) => assert.rejects(Video.open(url), { kind: "network", message: /the file has changed; open it again/ }),
  );
});

test("a server that sends more than was asked for is refused", async () => {
  await serving(
    (_, answer) => {
      answer.writeHead(206, { "Content-Range": `bytes 0-65535/${2 ** 20}` });
      answer.end(new Uint8Array(2 ** 20));
    },
    async (url) => assert.rejects(Video.open(url), { kind: "network", message: /more than was asked for/ }),
  );
});

/** The last INDEX record but those of level 1 and 0 that lists the last two frames: the first 1024. */
const INDEX = FILE.subarray(...(await pageOf(FILE)));

/** Where the first INDEX record of a file is. */
async function pageOf(file: Uint8Array): Promise<[number, number]> {
  let place: [number, number] | null = null;
  const catalogue = new Catalogue(({ type, offset, size }) => {
    if (type === 4) place ??= [offset, offset + size];
  });
  for await (const _ of catalogue.feed(file));
  return place!;
}

test("a file that is followed goes on after a lost connection", async () => {
  let connections = 0;
  await serving(
    (request, answer) => {
      if (request.url!.includes("?index")) return void answer.end(INDEX);
      assert.match(request.url!, /\?follow/);
      connections++;
      if (connections === 2) return void answer.destroy();
      answer.writeHead(200, { "Inv-Answer": "follow" });
      if (connections > 2) answer.end(FILE);
      else answer.write(FILE.subarray(0, 5000), () => answer.destroy());
    },
    async (url) => {
      const video = await Video.open(url, { follow: true });
      await ended(video);
      assert.equal(connections, 3);
      assert.equal(video.isLost, false);
      assert.deepEqual(
        video.entries.map(({ number }) => number),
        Array.from({ length: 1026 }, (_, i) => i),
      );
      assert.equal((await video.frame(1025)).number, 1025);
      video.close();
    },
  );
});

test("another file in the place of the one that is followed is told", async () => {
  const other = readFileSync(new URL("../../spec/vectors/valid/grid-ndc/input.inv", import.meta.url));
  for (const [file, page] of [
    [other, INDEX],
    [FILE, other.subarray(...(await pageOf(other)))],
  ] as const) {
    let connections = 0;
    let lose = () => {};
    await serving(
      (request, answer) => {
        if (request.url!.includes("?index")) return void answer.end(connections > 1 ? page : INDEX);
        answer.writeHead(200, { "Inv-Answer": "follow" });
        if (++connections > 1) return void answer.end(file);
        answer.write(FILE.subarray(0, 5000));
        lose = () => answer.destroy();
      },
      async (url) => {
        const video = await Video.open(url, { follow: true });
        while (!video.entries.length) await new Promise((resolve) => video.addEventListener("entries", resolve));
        const count = video.entries.length;
        lose();
        await new Promise((resolve) => video.addEventListener("replaced", resolve));
        assert.equal(video.entries.length, count);
        video.close();
      },
    );
  }
});

test("a server that knows only files is asked for what is new", async () => {
  for (const ranges of [true, false]) {
    let size = 5000;
    const asked: (string | undefined)[] = [];
    await serving(
      ({ headers: { range } }, answer) => {
        asked.push(range);
        const from = ranges && range ? Number(/^bytes=(\d+)-$/.exec(range)![1]) : 0;
        if (from >= size) answer.writeHead(416, { "Content-Range": `bytes */${size}` });
        else if (from) answer.writeHead(206, { "Content-Range": `bytes ${from}-${size - 1}/${size}` });
        else answer.writeHead(200, { "Content-Length": size });
        answer.end(from >= size ? "" : FILE.subarray(from, size));
        // Once nothing is new.
        if (asked.length === 2) size = FILE.length;
      },
      async (url) => {
        const video = await Video.open(url, { follow: true });
        await ended(video);
        assert.equal(video.entries.length, 1026);
        assert.equal((await video.frame(1025)).number, 1025);
        assert.deepEqual(asked.slice(0, 2), [undefined, "bytes=5000-"]);
        if (ranges) assert.equal(video.traffic.bytes, FILE.length);
        video.close();
      },
    );
  }
});

test("a newer request takes the place of an older one, whose changes are not lost", async () => {
  const video = await Video.open(FILE);
  await ended(video);
  const first = video.frame(1025);
  const second = video.frame(3);
  await assert.rejects(first, { name: "AbortError" });
  const frame = await second;
  const fresh = await Video.open(FILE);
  await ended(fresh);
  assert.deepEqual(frame.networks[0]!.tensors, (await fresh.frame(3)).networks[0]!.tensors);
  for (const each of [video, fresh]) each.close();
});

test("what changed is what differs from the frame before", async () => {
  const video = await Video.open(FILE);
  await ended(video);
  const copy = (tensors: Map<string, Float32Array>) => new Map([...tensors].map(([name, all]) => [name, all.slice()]));
  let before = copy((await video.frame(0)).networks[0]!.tensors);
  for (const position of [1, 7, 3]) {
    const { tensors, changed } = (await video.frame(position)).networks[0]!;
    for (const [name, values] of tensors) {
      const marked = new Set<number>();
      for (const [from, to] of changed.get(name) ?? []) for (let i = from; i < to; i++) marked.add(i);
      const unmarked = values.findIndex((value, i) => value !== before.get(name)![i] && !marked.has(i));
      assert.equal(unmarked, -1, name);
    }
    before = copy(tensors);
  }
  video.close();
});
