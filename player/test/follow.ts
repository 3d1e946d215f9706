/** `node follow.js URL` prints the number of each frame of a growing file as it arrives, and at the end the last and the first that decode. */

import { Video } from "../src/index";
import { ended } from "./play";

const video = await Video.open(process.argv[2]!, { follow: true });
let told = 0;
const tell = () => {
  for (; told < video.entries.length; told++) console.log(video.entries[told]!.number);
};
video.addEventListener("entries", tell);
tell();
await ended(video);
const { number: last } = await video.frame(video.entries.length - 1);
const { number: first } = await video.frame(0);
console.log(`${video.ending!.status}, decoded ${last} and ${first}`);
video.close();
