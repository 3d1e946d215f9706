/** `node time-files.js FILE ...` prints how long each frame takes to decode, in milliseconds of CPU time. */

import { readFileSync } from "node:fs";
import { State } from "../src/coding/state";
import { Catalogue } from "../src/container/catalogue";

for (const file of process.argv.slice(2)) {
  const catalogue = new Catalogue();
  let state: State | undefined;
  const times: string[] = [];
  for await (const { row, frame, coded } of catalogue.feed(readFileSync(file))) {
    state ??= new State(catalogue.head!);
    const start = process.cpuUsage();
    state.apply(frame, coded);
    const { user, system } = process.cpuUsage(start);
    times.push(`${row.isKey ? "key " : ""}${((user + system) / 1000).toFixed(1)} (${row.size} B)`);
  }
  const values = state?.tensors.reduce((sum, { values }) => sum + values.length, 0);
  console.log(`${file}: ${values} values: ${times.join(", ")}`);
}
