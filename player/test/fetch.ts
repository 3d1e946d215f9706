/** `node fetch.js URL POSITION ...` prints what a page gets of a file on a server. */

import { play } from "./play";

const [url, ...positions] = process.argv.slice(2);
console.log(JSON.stringify(await play(url!, positions.length ? positions.map(Number) : undefined)));
