/** Files that `invcodec` serves while they are written (`?follow`): header, last keyframe, and what comes since. */

import { need } from "../errors";
import { bodyOf, request, wait } from "./http";
import type { Traffic } from "./source";

/** Milliseconds before each attempt to connect again; the last one repeats. */
const RETRIES = [100, 200, 500, 1000, 2000];

/** Each connection is a file of its own, which begins at the last keyframe. */
export async function* connections(
  url: string,
  traffic: Traffic,
  told: (isLost: boolean) => void,
): AsyncGenerator<AsyncIterable<Uint8Array>> {
  const address = new URL(url);
  address.searchParams.set("follow", "");
  for (let attempt = 0; ; attempt++) {
    const answer = await request(address.href, traffic);
    const follows = answer.headers.get("Inv-Answer") === "follow";
    need(follows, "network", `${url}: this server cannot stream growing files; publish it with 'invcodec serve'`);
    told(false);
    const before = traffic.bytes;
    yield bodyOf(answer, traffic);
    told(true);
    if (traffic.bytes > before) attempt = 0;
    await wait(RETRIES[Math.min(attempt, RETRIES.length - 1)]!);
  }
}
