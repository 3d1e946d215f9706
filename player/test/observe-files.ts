/** `node observe-files.js PIECE FILE ...` prints what `observe` finds in each file, as a JSON list. */

import { readFileSync } from "node:fs";
import { observe } from "./observe";

const [piece, ...files] = process.argv.slice(2);
const found: unknown[] = [];
for (const file of files) found.push(await observe(readFileSync(file), Number(piece) || undefined));
console.log(JSON.stringify(found));
