/** `node vectors.js observe|play PIECE FILE ...` prints what the player finds in each file, as a JSON list. */

import { readFileSync } from "node:fs";
import { observe } from "./observe";
import { play } from "./play";

const [what, piece, ...files] = process.argv.slice(2);
const found: unknown[] = [];
for (const file of files) {
  const data = readFileSync(file);
  found.push(what === "play" ? await play(new Blob([data])) : await observe(data, Number(piece) || undefined));
}
console.log(JSON.stringify(found));
