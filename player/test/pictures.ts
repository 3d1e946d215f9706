/** Pictures of a file, as the renderer makes them. */

import { InvError, Video } from "../src/index";
import { Renderer, type View } from "../src/render/renderer";
import { ended } from "./play";

interface Wanted {
  /** Frame number. */
  frame: number;
  camera: string;
}

/** All pixels of a view, from the top row to the bottom row, [height, width, 4] with straight alpha. */
export function pixelsOf(gl: WebGL2RenderingContext, renderer: Renderer, view: View): Uint8Array {
  const { width, height } = view.camera;
  const target = gl.createRenderbuffer();
  gl.bindRenderbuffer(gl.RENDERBUFFER, target);
  gl.renderbufferStorage(gl.RENDERBUFFER, gl.RGBA8, width, height);
  const framebuffer = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
  gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, target);
  renderer.draw(view, { x: 0, y: 0, width, height }, false);
  const pixels = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  gl.deleteFramebuffer(framebuffer);
  gl.deleteRenderbuffer(target);
  return pixels;
}

/** Pixels in base 64, or the class of the error, of views of a file, one after the other with the same renderer. */
export async function pictures(address: string, wanted: Wanted[]): Promise<string[]> {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl) throw new Error("no WebGL 2");
  const video = await Video.open(address);
  try {
    await ended(video);
    const renderer = await Renderer.create(gl, video.head);
    const results: string[] = [];
    for (const { frame: number, camera: name } of wanted) {
      const frame = await video.frame(video.entries.findIndex((entry) => entry.number === number));
      const colourOf = frame.cameras.findIndex((camera) => camera.name === name);
      const camera = frame.cameras[colourOf]!;
      renderer.load(frame);
      const pixels = pixelsOf(gl, renderer, { camera, colourOf, shows: "colour", range: [1, 2] });
      results.push(btoa(Array.from(pixels, (value) => String.fromCharCode(value)).join("")));
    }
    renderer.close();
    return results;
  } catch (error) {
    if (error instanceof InvError) return wanted.map(() => error.kind);
    throw error;
  } finally {
    video.close();
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
