/** The parts of the element besides the picture: the bar, the menu, the panels. */

import { SPEEDS } from "./clock";
import { icon } from "./icons";

const speedOf = (speed: number): string => (speed === 1 ? "Normal" : `${speed} ×`);

const KEYS = [
  ["Drag, one finger", "orbit, or look around when flying"],
  ["Right or Shift drag, two fingers", "pan"],
  ["Wheel, pinch", "closer, farther away"],
  ["W A S D, Q E", "move; down, up (Shift: faster)"],
  ["Double click, R", "back to the camera"],
  ["V, Shift V", "next, previous camera"],
  ["G", "orbit or fly"],
  [],
  ["Space, K", "play, pause"],
  ["← →, comma, full stop", "previous, next frame"],
  ["Home, End; 0 to 9", "first, last frame; tenths"],
  ["< >", "slower, faster"],
  ["O", "loop"],
  ["L", "live"],
  [],
  ["T", "depth"],
  ["N", "render on the server, if there is one"],
  ["F", "full screen"],
  ["P, C", "save the picture, copy a link"],
  ["I, ?", "statistics, this list"],
];

const keyRow = ([keys, what]: string[]): string =>
  keys ? `<tr><td>${keys}</td><td>${what}</td></tr>` : '<tr><td colspan="2"><hr></td></tr>';

const button = (id: string, label: string, inside: string, more = ""): string =>
  `<button id="${id}" type="button" title="${label}" aria-label="${label.replace(/ \(.*/, "")}" ${more}>${inside}</button>`;

const item = (id: string, label: string, key: string, more = ""): string =>
  `<button id="${id}" type="button" ${more}>${label}<kbd>${key}</kbd></button>`;

/** The content of the element's shadow tree. */
export const CONTENT = `
<div class="stage" id="stage">
  <canvas class="picture" id="picture" tabindex="0" role="application" aria-label="View of the scene"
    aria-roledescription="scene"></canvas>
  <canvas class="sent" id="sent" hidden></canvas>
  <div class="busy" id="busy" hidden></div>
</div>
<dl class="panel facts" id="facts" hidden></dl>
<div class="panel note" id="note" role="status" hidden></div>
<div class="panel keys" id="keys" role="dialog" aria-label="Keys" hidden>
  <h2>Mouse, fingers, keys</h2><table>${KEYS.map(keyRow).join("")}</table>
</div>
<div class="panel menu" id="menu" role="group" aria-label="More" hidden>
  <label>Camera<select id="camera"></select></label>
  ${item("fly", "Fly", "G", 'aria-pressed="false"')}
  ${item("depth", "Depth", "T", 'aria-pressed="false"')}
  ${item("server", "Render on the server", "N", 'aria-pressed="false" hidden')}
  <hr>
  <label>Speed<select id="speed">${SPEEDS.map((speed) => `<option value="${speed}">${speedOf(speed)}</option>`).join("")}</select></label>
  ${item("loop", "Loop", "O", 'aria-pressed="false"')}
  <hr>
  ${item("save", "Save picture", "P")}
  ${item("link", "Copy link to this view", "C")}
  ${item("stats", "Statistics", "I", 'aria-pressed="false"')}
  ${item("help", "Keys", "?", 'aria-pressed="false"')}
</div>
<div class="bar" id="bar" hidden>
  <div class="track" id="track"><canvas id="line"></canvas><input id="slider" type="range" min="0" max="0" step="1" value="0"
    aria-label="Frame"></div>
  <div class="row">
    ${button("play", "Play (Space)", icon("play"))}
    ${button("back", "Previous frame (←)", icon("back"), 'class="wide"')}
    ${button("on", "Next frame (→)", icon("on"), 'class="wide"')}
    <span class="clock" id="clock"></span>
    <span class="space"></span>
    ${button("live", "Go live (L)", "LIVE", 'class="live" aria-pressed="false" hidden')}
    ${button("more", "More", icon("more"), 'aria-expanded="false" aria-controls="menu"')}
    ${button("full", "Full screen (F)", icon("full"))}
  </div>
</div>
<div class="said" id="said" role="log" aria-live="polite"></div>
`;

/** A time in seconds as people write it. */
export function timeText(seconds: number): string {
  const whole = Math.max(0, seconds);
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  return minutes ? `${minutes}:${rest.toFixed(1).padStart(4, "0")}` : `${rest.toFixed(2)} s`;
}

export function sizeText(bytes: number): string {
  if (bytes >= 1e6) return `${(bytes / 1e6).toPrecision(3)} MB`;
  return bytes >= 1e3 ? `${(bytes / 1e3).toPrecision(3)} kB` : `${bytes} B`;
}
