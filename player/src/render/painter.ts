// A canvas that shows the newest view: at once, as fine as time permits, and in full once the view is still.

import type { Camera, Head } from "../container/head";
import type { Frame } from "../field/frame";
import { compile } from "./program";
import { type Rectangle, Renderer, type View } from "./renderer";

/** Milliseconds that the GPU may be busy with one piece of work: the page is never kept waiting for much longer. */
const BUDGET = 12;
/** Steps of resolution, each of half the rays of the one before; and how many are taken at a time to refine a picture. */
const STEPS = 8;
const FINER = 2;
/** Milliseconds for a ray, until they are measured; and times the rays of the last piece that one may have at most. */
const FIRST_GUESS = 0.01;
const GROWTH = 4;
/**
 * A device is too slow if a view that moves has fewer rays than this, unless that is all of a small picture: a tenth of
 * the detail of 1280x720 in each direction. Then a ray takes more than 1.3 µs, about four times as long as where two cores
 * of a server render, and a still picture of that size 1.2 s. It is known after so many pieces of work, the first of which
 * are small.
 */
const LEAST_RAYS = 128 * 72;
const MEASURED = 8;
/** Smallest piece of work, in pixels: GPUs render in squares. */
const PIECE = { width: 8, height: 4 };

/** A view for pictures of any size. */
export interface Scenery extends Omit<View, "camera"> {
  camera(width: number, height: number): Camera;
}

/** Where the picture of a canvas stands. */
export interface Progress {
  /** Size of what is shown; null before the first picture. */
  size: [number, number] | null;
  /** Whether that is the newest view in full resolution. */
  settled: boolean;
  /** Milliseconds that the picture took. */
  took: number;
}

/** What keeps a canvas showing the newest view. */
export interface Painting {
  readonly progress: Progress;
  /** Show this view from now on. */
  show(scenery: Scenery): void;
  /** Change the size of the canvas, in pixels of the device. */
  resize(width: number, height: number): void;
  /** What is shown, as PNG. */
  save(): Promise<Blob | null>;
  /** Begin what there is to do; called for each picture of the display. */
  tick(): void;
  close(): void;
}

interface Job {
  view: View;
  step: number;
  /** Whether a coarser picture of the same view is shown already. */
  refines: boolean;
  /** Where the next piece begins. */
  x: number;
  y: number;
  took: number;
  target: Target;
}

interface Target {
  framebuffer: WebGLFramebuffer;
  texture: WebGLTexture;
  width: number;
  height: number;
}

const SPREAD = `#version 300 es
out vec2 place;
void main() {
  place = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0;
  gl_Position = vec4(2.0 * place.x - 1.0, 1.0 - 2.0 * place.y, 0.0, 1.0);
}
`;
const COPY = `#version 300 es
precision mediump float;
uniform sampler2D picture;
in vec2 place;
out vec4 colour;
void main() { colour = texture(picture, place); }
`;

/** Renders views of one file on a canvas. */
export class Painter implements Painting {
  private wanted: Scenery | null = null;
  private readonly frames: Frame[] = [];
  private stale = false;
  private job: Job | null = null;
  private shown: Target | null = null;
  private shownStep = 0;
  private spare: Target | null = null;
  private took = 0;
  private busy = false;
  private perRay = FIRST_GUESS;
  /** Rays of the last piece of work; 0 before the first one. */
  private last = 0;
  private measured = 0;
  private closed = false;

  private constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly gl: WebGL2RenderingContext,
    private readonly renderer: Renderer,
    private readonly copy: WebGLProgram,
    private readonly painted: () => void,
  ) {}

  /**
   * @param painted - called when there is something new to see.
   * @throws InvError - the scene cannot be rendered on this device.
   */
  static async create(
    canvas: HTMLCanvasElement,
    gl: WebGL2RenderingContext,
    head: Head,
    painted: () => void,
  ): Promise<Painter> {
    const [renderer, copy] = await Promise.all([Renderer.create(gl, head), compile(gl, SPREAD, COPY)]);
    return new Painter(canvas, gl, renderer, copy, painted);
  }

  get progress(): Progress {
    const size = this.shown && ([this.shown.width, this.shown.height] as [number, number]);
    return { size, settled: size !== null && !this.stale && !this.job && this.shownStep === 0, took: this.took };
  }

  /** Show this frame from now on. */
  load(frame: Frame): void {
    // Not in the middle of a picture.
    this.frames.push(frame);
    this.stale = true;
  }

  show(scenery: Scenery): void {
    this.wanted = scenery;
    this.stale = true;
  }

  /** Whether what moves would be seen too coarsely on this device. */
  get isSlow(): boolean {
    const least = Math.min(LEAST_RAYS, this.canvas.width * this.canvas.height);
    return this.measured >= MEASURED && this.perRay * least > BUDGET;
  }

  resize(width: number, height: number): void {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.shown) this.present(this.shown);
    this.stale = true;
  }

  async save(): Promise<Blob | null> {
    // The canvas keeps its picture only until the browser has shown it.
    if (this.shown) this.present(this.shown);
    return new Promise((resolve) => this.canvas.toBlob(resolve));
  }

  /** Begin to work, if there is something to do and the last piece is done. */
  tick(): void {
    if (this.busy || this.closed || this.gl.isContextLost()) return;
    // The first picture of a view is completed, or nothing would be seen while the view moves.
    if (this.stale && this.job?.refines) {
      this.free(this.job.target);
      this.job = null;
    }
    if (!this.job && this.stale && this.wanted) this.begin(this.affordable(), false);
    else if (!this.job && this.shown && this.shownStep > 0) this.begin(Math.max(0, this.shownStep - FINER), true);
    if (this.job) this.work(this.job);
  }

  private sizeOf(step: number): [number, number] {
    const { width, height } = this.canvas;
    const scaled = (side: number): number => Math.max(1, Math.round(side * 2 ** (-step / 2)));
    return [scaled(width), scaled(height)];
  }

  /** The finest step whose picture is one piece of work. */
  private affordable(): number {
    const rays = (step: number): number => this.sizeOf(step).reduce((a, b) => a * b);
    let step = 0;
    while (step < STEPS && rays(step) * this.perRay > BUDGET) step++;
    return step;
  }

  private begin(step: number, refines: boolean): void {
    for (const frame of this.frames.splice(0)) this.renderer.load(frame);
    if (!this.wanted) return;
    const [width, height] = this.sizeOf(step);
    const view = { ...this.wanted, camera: this.wanted.camera(width, height) };
    this.job = { view, step, refines, x: 0, y: 0, took: 0, target: this.takeTarget(width, height) };
    this.stale = false;
  }

  private work(job: Job): void {
    const { width, height } = job.target;
    const part = this.piece(job);
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, job.target.framebuffer);
    this.renderer.draw(job.view, part, true);
    job.x = (job.x + part.width) % width;
    if (job.x === 0) job.y += part.height;
    const complete = job.y === height;
    if (complete) {
      this.job = null;
      this.free(this.spare);
      this.spare = this.shown;
      this.shown = job.target;
      this.shownStep = job.step;
      this.present(job.target);
    }
    const began = performance.now();
    this.busy = true;
    this.whenDone(() => {
      const took = performance.now() - began;
      this.busy = false;
      job.took += took;
      // With its first work, a driver finishes compiling. Other work of the machine only ever adds time.
      const rays = part.width * part.height;
      const now = took / rays;
      if (this.last) this.perRay = now < this.perRay ? now : this.perRay + (now - this.perRay) / 4;
      this.last = rays;
      this.measured++;
      if (complete) {
        this.took = job.took;
        this.painted();
      }
      this.tick();
    });
  }

  /** The next part of a picture that is as large as time permits: some rows, or a part of a few. */
  private piece({ x, y, target: { width, height } }: Job): Rectangle {
    const rays = Math.min(BUDGET / this.perRay, GROWTH * this.last);
    const rows = x > 0 ? PIECE.height : Math.max(Math.floor(rays / width), PIECE.height);
    const least = Math.min(rows, height - y);
    const columns = Math.max(Math.floor(rays / least), PIECE.width);
    return { x, y, width: Math.min(columns, width - x), height: least };
  }

  private present({ texture }: Target): void {
    const { gl, canvas } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(this.copy);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  private whenDone(then: () => void): void {
    const { gl } = this;
    const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    const isWaiting = (): boolean =>
      fence !== null && !this.closed && !gl.isContextLost() && gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED;
    const poll = (): void => {
      if (isWaiting()) {
        setTimeout(poll, 0);
        return;
      }
      gl.deleteSync(fence);
      if (!this.closed) then();
    };
    setTimeout(poll, 0);
  }

  private takeTarget(width: number, height: number): Target {
    const { gl, spare } = this;
    this.spare = null;
    if (spare && spare.width === width && spare.height === height) return spare;
    this.free(spare);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.LINEAR);
    const framebuffer = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return { framebuffer, texture, width, height };
  }

  private free(target: Target | null): void {
    this.gl.deleteFramebuffer(target?.framebuffer ?? null);
    this.gl.deleteTexture(target?.texture ?? null);
  }

  close(): void {
    this.closed = true;
    for (const target of [this.shown, this.spare, this.job?.target ?? null]) this.free(target);
    this.gl.deleteProgram(this.copy);
    this.renderer.close();
  }
}
