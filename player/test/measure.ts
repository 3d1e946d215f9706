/** How much work pictures are, and what each way to save some of it saves. */

import { NERF } from "../src/field/profiles";
import { rolesOf } from "../src/field/roles";
import { type Frame, Video } from "../src/index";
import { fitted } from "../src/page/eye";
import { Renderer } from "../src/render/renderer";
import { pixelsOf } from "./pictures";
import { ended } from "./play";

/** Replacements in shaders that undo an optimisation. */
const WITHOUT: Record<string, [RegExp, string][]> = {
  "as it is": [],
  "without skipping empty space": [
    [/if \(gap > 0\)/, "if (false)"],
    [/k = skip\(k, leave\(ray, s, corner.*\);/, "k++;"],
  ],
  "without an early stop": [[/while \(march.left > 1e-3\)/, "while (true)"]],
  "colour at each sample": [
    [/vec3 (n\d+)_view;/, "vec3 $1_view, extra; vec3 $1_picture(float opacity);"],
    [/(n\d+)_take\(weight\);/, "$1_take(weight); extra += $1_picture(1.0);"],
    [/rgb = clamp\(gain \* rgb/, "rgb = clamp(1e-9 * extra + gain * rgb"],
  ],
  "in full floats": [],
};

/** Those of `grid` alone. */
const OF_GRID = ["colour at each sample", "in full floats"];

/** A context that changes shaders and textures on their way to the driver, and counts bytes that are uploaded. */
function context(without: string): { gl: WebGL2RenderingContext; uploaded(): number } {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2")!;
  let bytes = 0;
  const change = <K extends "shaderSource" | "texStorage2D" | "texSubImage2D">(
    name: K,
    by: (call: (...given: unknown[]) => void, ...given: never[]) => void,
  ): void => {
    const call = (gl[name] as (...given: unknown[]) => void).bind(gl);
    Object.assign(gl, { [name]: (...given: never[]) => by(call, ...given) });
  };
  change("shaderSource", (call, shader, text: string) => {
    const replaced = WITHOUT[without]!.reduce((all, [from, to]) => all.replace(from, to), text);
    call(shader, replaced);
  });
  change("texStorage2D", (call, target, levels, format: number, width, height) => {
    call(target, levels, without === "in full floats" && format === gl.RG16F ? gl.RG32F : format, width, height);
  });
  change("texSubImage2D", (call, ...given: unknown[]) => {
    bytes += (given.at(-1) as Float32Array).byteLength;
    call(...given);
  });
  return { gl, uploaded: () => bytes };
}

/** Multiply-adds at each sample, and at each ray for its colour; texels that a sample reads. */
function costs(frame: Frame): { sample: number; colour: number; texels: number } {
  const { config, profile } = frame.head.networks[rolesOf(frame.head).shown]!;
  const of = (key: string): number => config[key] as number;
  if (profile === NERF) {
    const [width, depth, inputs] = [of("width"), of("depth"), 3 + 6 * of("position_octaves")];
    return {
      sample: width * inputs + (depth - 1) * width * width + width + (width / 2) * (width + 3),
      colour: (width / 2) * (3 + 6 * of("direction_octaves")),
      texels: 0,
    };
  }
  const levels = (config.resolutions as number[]).length;
  const [hidden, features, colour] = [of("hidden"), of("features"), of("colour_hidden")];
  return {
    sample: hidden * 2 * levels + (1 + features) * hidden,
    colour: colour * (features + 9) + colour * colour + 3 * colour,
    texels: 8 * levels,
  };
}

/** Milliseconds that each frame takes to decode, in order, and the first one again, once the browser has compiled the code. */
async function decoding(video: Video): Promise<number[]> {
  const times: number[] = [];
  for (const position of [...video.entries.keys(), 0]) times.push((await video.frame(position)).decoding);
  return times;
}

/** Of the first camera's view, for each size: milliseconds and counts; and of decoding. */
export async function measure(address: string, sizes: [number, number][], repeats: number): Promise<unknown> {
  const video = await Video.open(address);
  await ended(video);
  const rows: unknown[] = [{ decoding: await decoding(video) }];
  const first = await video.frame(0);
  const cost = costs(first);
  const ways = Object.keys(WITHOUT).filter((way) => cost.texels > 0 || !OF_GRID.includes(way));
  for (const without of ways) {
    const { gl, uploaded } = context(without);
    const renderer = await Renderer.create(gl, video.head);
    renderer.load(await video.frame(0));
    const whole = uploaded();
    for (const [width, height] of without === "as it is" ? sizes : sizes.slice(0, 1)) {
      const view = { camera: fitted(first.cameras[0]!, width, height), colourOf: 0, range: [1, 2] as [number, number] };
      pixelsOf(gl, renderer, { ...view, shows: "colour" });
      let took = Infinity;
      for (let i = 0; i < repeats; i++) {
        const began = performance.now();
        pixelsOf(gl, renderer, { ...view, shows: "colour" });
        took = Math.min(took, performance.now() - began);
      }
      const counts = pixelsOf(gl, renderer, { ...view, shows: "counts" });
      const mean = (byte: number): number => {
        let sum = 0;
        for (let i = byte; i < counts.length; i += 4) sum += 256 * counts[i]! + counts[i + 1]!;
        return sum / (width * height);
      };
      const [looked, taken] = [mean(0), mean(2)];
      const colours = without === "colour at each sample" ? taken + 1 : 1;
      rows.push({
        without,
        size: [width, height],
        milliseconds: took,
        cells: looked,
        samples: taken,
        texels: 2 * looked + taken * cost.texels,
        products: taken * cost.sample + colours * cost.colour,
      });
    }
    if (without === "as it is" && video.entries.length > 1) {
      const before = uploaded();
      renderer.load(await video.frame(1));
      rows.push({ keyBytes: whole, deltaBytes: uploaded() - before });
    }
    renderer.close();
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
  video.close();
  return rows;
}
