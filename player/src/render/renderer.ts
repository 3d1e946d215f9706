// Pictures of a frame, by WebGL 2.

import type { Camera, Head } from "../container/head";
import { InvError } from "../errors";
import type { Frame, NetworkState } from "../field/frame";
import { type Roles, rolesOf } from "../field/roles";
import { blocksOf, gaps } from "./cells";
import { buildField, type Field } from "./fields";
import { Layers } from "./layers";
import { marchShader } from "./march";
import { compile } from "./program";
import { type RayUniforms, rayShader, rayUniforms } from "./rays";

/** What to show of a scene. */
export interface View {
  /** With a size of the picture's and intrinsics for it. */
  camera: Camera;
  /** Index of the camera in HEAD whose exposure and white balance the picture has; null for the scene's own colours. */
  colourOf: number | null;
  shows: "colour" | "depth" | "counts";
  /** Of depths in false colours: the nearest and the farthest. */
  range: [number, number];
}

export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

const SHOWS = { colour: 0, depth: 1, counts: 2 };

/** Nine evenly spaced colours of Google's Turbo colour map, from far to near. */
const TURBO = "48 18 59, 70 107 227, 40 187 236, 49 242 153, 162 252 60, 237 208 58, 251 128 34, 210 49 5, 122 4 3"
  .split(", ")
  .map((colour) => `vec3(${colour.split(" ").map((value) => `${value}.0 / 255.0`)})`);

const MAIN = (shown: Field, transparent: boolean): string => `
uniform vec3 background;
uniform vec3 gain;
uniform vec3 offset;
uniform int shows;
uniform bool premultiplied;
uniform vec2 range;
out vec4 colour;

vec3 falseColour(float depth) {
  const vec3 turbo[${TURBO.length}] = vec3[](${TURBO.join(", ")});
  float place = clamp((1.0 / depth - 1.0 / range.y) / (1.0 / range.x - 1.0 / range.y), 0.0, 1.0) * ${TURBO.length - 1}.0;
  int low = min(int(place), ${TURBO.length - 2});
  return mix(turbo[low], turbo[low + 1], place - float(low));
}

void main() {
  vec3 direction = look(gl_FragCoord.xy);
  Ray ray = enter(direction);
  March march = trace(ray, normalize(pose * direction));
  float opacity = 1.0 - march.left;
  if (shows == ${SHOWS.depth}) {
    float depth = march.median == NONE ? -1.0 : depthAt(ray, march.median);
    colour = vec4(depth > 0.0 ? falseColour(depth) : vec3(0.0), 1.0);
    return;
  }
  if (shows == ${SHOWS.counts}) {
    colour = vec4(looked >> 8, looked & 255, march.taken >> 8, march.taken & 255) / 255.0;
    return;
  }
  vec3 rgb = ${shown.prefix}_picture(opacity);
  ${transparent ? "rgb /= max(opacity, 1e-4);" : "rgb += march.left * background;"}
  rgb = clamp(gain * rgb + offset, 0.0, 1.0);
  colour = ${transparent ? "vec4(premultiplied ? rgb * opacity : rgb, opacity)" : "vec4(rgb, 1.0)"};
}
`;

const VERTICES = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }
`;

/** Vectors of four in a row of the texture of layers. */
const LAYER_ROW = 1024;

/** What is larger than this, half floats cannot hold. */
const MOST_HALF = 65504;

interface Held {
  field: Field;
  table: WebGLTexture | null;
  /** Whether the table is in half floats, which its values usually fit, and which take half the bandwidth. */
  half: boolean;
  cells: WebGLTexture | null;
  gaps: WebGLTexture | null;
}

/** Holds one frame on the GPU and renders it. */
export class Renderer {
  private readonly uniforms = new Map<string, WebGLUniformLocation | null>();
  private readonly held: Held[];
  private readonly packed: Float32Array<ArrayBuffer>;
  private readonly layerBuffer: WebGLBuffer | null;
  private readonly layerTexture: WebGLTexture | null;
  private loaded = false;
  private colour: NetworkState | null = null;

  private constructor(
    private readonly gl: WebGL2RenderingContext,
    private readonly program: WebGLProgram,
    private readonly head: Head,
    private readonly scene: Scene,
  ) {
    this.packed = new Float32Array(4 * scene.layers.size);
    this.layerBuffer = scene.buffered ? gl.createBuffer() : null;
    this.layerTexture = scene.buffered ? null : texture(gl);
    this.held = scene.fields.map((field) => ({
      field,
      table: null,
      half: true,
      cells: field.occupancy ? texture(gl, gl.TEXTURE_3D) : null,
      gaps: field.occupancy ? texture(gl, gl.TEXTURE_3D) : null,
    }));
  }

  /**
   * Compile what renders the networks of a file, which takes a moment, without blocking the page.
   *
   * @throws InvError - this device cannot.
   */
  static async create(gl: WebGL2RenderingContext, head: Head): Promise<Renderer> {
    const scene = describe(gl, head);
    const program = await compile(gl, VERTICES, scene.shader);
    return new Renderer(gl, program, head, scene);
  }

  /** Take a frame; of a frame that follows the last one, only what changed is uploaded. */
  load(frame: Frame): void {
    const { gl } = this;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    for (const held of this.held) {
      const state = frame.networks[held.field.network]!;
      this.loadTable(held, state);
      this.loadCells(held, state);
    }
    this.loadLayers(frame);
    const { cameraColour } = this.scene.roles;
    this.colour = cameraColour === null ? null : frame.networks[cameraColour]!;
    this.loaded = true;
  }

  private loadTable(held: Held, state: NetworkState): void {
    const { table } = held.field;
    if (!table) return;
    const { gl } = this;
    let patches = [...table.patches(state, !this.loaded)];
    const small = held.half && patches.every((patch) => patch.values.every((value) => Math.abs(value) <= MOST_HALF));
    if (!held.table || small !== held.half) {
      gl.deleteTexture(held.table);
      held.half = small;
      held.table = texture(gl);
      gl.texStorage2D(gl.TEXTURE_2D, 1, small ? gl.RG16F : gl.RG32F, table.width, table.rows);
      patches = [...table.patches(state, true)];
    }
    gl.bindTexture(gl.TEXTURE_2D, held.table);
    for (const { row, rows, width, values } of patches) {
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, row, width, rows, gl.RG, gl.FLOAT, values);
    }
  }

  private loadCells({ field, cells, gaps: near }: Held, state: NetworkState): void {
    if (!field.occupancy) return;
    const { gl } = this;
    if (field.parts) {
      gl.useProgram(this.program);
      gl.uniform4fv(this.uniform(`${field.prefix}_motion`), state.tensors.get("motion")!);
    }
    const moved = state.changed.has("motion") && state.tensors.get("motion")!.some((value) => value !== 0);
    if (this.loaded && !state.changed.has("occupancy") && !moved) return;
    const upload = (target: WebGLTexture | null, side: number, values: Uint8Array): void => {
      gl.bindTexture(gl.TEXTURE_3D, target);
      gl.texImage3D(gl.TEXTURE_3D, 0, gl.R8UI, side, side, side, 0, gl.RED_INTEGER, gl.UNSIGNED_BYTE, values);
    };
    upload(cells, field.occupancy, state.occupancy!);
    upload(near, blocksOf(field.occupancy), gaps(state, field.occupancy));
  }

  private loadLayers(frame: Frame): void {
    const { gl } = this;
    this.scene.layers.pack(frame.networks, this.packed);
    if (this.layerBuffer) {
      gl.bindBuffer(gl.UNIFORM_BUFFER, this.layerBuffer);
      gl.bufferData(gl.UNIFORM_BUFFER, this.packed, gl.DYNAMIC_DRAW);
      return;
    }
    const rows = Math.ceil(this.scene.layers.size / LAYER_ROW);
    const whole = new Float32Array(4 * LAYER_ROW * rows);
    whole.set(this.packed);
    gl.bindTexture(gl.TEXTURE_2D, this.layerTexture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, LAYER_ROW, rows, 0, gl.RGBA, gl.FLOAT, whole);
  }

  /**
   * Render a part of a picture to the framebuffer that is bound, whose first row is the top of the picture.
   *
   * @param premultiplied - of a transparent file, colours multiplied with opacity, as pages show them.
   */
  draw(view: View, part: Rectangle, premultiplied: boolean): void {
    const { gl } = this;
    gl.useProgram(this.program);
    this.setRays(rayUniforms(view.camera, this.scene.roles.space));
    const colour = (name: string, other: number): number[] => {
      const tensor = view.colourOf === null ? undefined : this.colour?.tensors.get(name);
      return [0, 1, 2].map((k) => tensor?.[3 * view.colourOf! + k] ?? other);
    };
    gl.uniform3fv(this.uniform("background"), this.head.background ?? [0, 0, 0]);
    gl.uniform3fv(this.uniform("gain"), colour("gain", 1));
    gl.uniform3fv(this.uniform("offset"), colour("offset", 0));
    gl.uniform1i(this.uniform("shows"), SHOWS[view.shows]);
    gl.uniform1i(this.uniform("premultiplied"), Number(premultiplied));
    gl.uniform2fv(this.uniform("range"), view.range);
    this.bind();
    gl.viewport(0, 0, view.camera.width, view.camera.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(part.x, part.y, part.width, part.height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
  }

  private setRays(rays: RayUniforms): void {
    const { gl } = this;
    gl.uniform4fv(this.uniform("lens"), rays.lens);
    gl.uniform1fv(this.uniform("radial"), rays.radial);
    gl.uniform2fv(this.uniform("tangential"), rays.tangential);
    gl.uniform4fv(this.uniform("prism"), rays.prism);
    gl.uniform1i(this.uniform("fisheye"), Number(rays.fisheye));
    gl.uniform1i(this.uniform("distorted"), Number(rays.distorted));
    gl.uniformMatrix3fv(this.uniform("turn"), false, rays.turn);
    gl.uniformMatrix3fv(this.uniform("pose"), false, rays.pose);
    gl.uniform3fv(this.uniform("eye"), rays.eye);
    gl.uniform3fv(this.uniform("low"), rays.low);
    gl.uniform3fv(this.uniform("high"), rays.high);
  }

  private bind(): void {
    const { gl } = this;
    let unit = 0;
    const use = (name: string, target: number, bound: WebGLTexture | null): void => {
      if (!bound) return;
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(target, bound);
      gl.uniform1i(this.uniform(name), unit++);
    };
    for (const { field, table, cells, gaps: near } of this.held) {
      use(`${field.prefix}_table`, gl.TEXTURE_2D, table);
      use(`${field.prefix}_cells`, gl.TEXTURE_3D, cells);
      use(`${field.prefix}_gaps`, gl.TEXTURE_3D, near);
    }
    use("layerTexels", gl.TEXTURE_2D, this.layerTexture);
    // Later bindings must not disturb these.
    gl.activeTexture(gl.TEXTURE0 + unit);
    if (this.layerBuffer) gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, this.layerBuffer);
  }

  private uniform(name: string): WebGLUniformLocation | null {
    if (!this.uniforms.has(name)) this.uniforms.set(name, this.gl.getUniformLocation(this.program, name));
    return this.uniforms.get(name)!;
  }

  close(): void {
    const { gl } = this;
    for (const held of this.held) for (const each of [held.table, held.cells, held.gaps]) gl.deleteTexture(each);
    gl.deleteTexture(this.layerTexture);
    gl.deleteBuffer(this.layerBuffer);
    gl.deleteProgram(this.program);
  }
}

interface Scene {
  roles: Roles;
  /** The guide, if it is another network, and the shown network. */
  fields: Field[];
  layers: Layers;
  /** Whether the layers are in a uniform buffer; they are in a texture otherwise. */
  buffered: boolean;
  shader: string;
}

/** @throws InvError - this device cannot hold it. */
function describe(gl: WebGL2RenderingContext, head: Head): Scene {
  const roles = rolesOf(head);
  const layers = new Layers();
  const build = (network: number): Field => buildField(`n${network}`, network, head.networks[network]!, layers);
  const shown = build(roles.shown);
  const guide = roles.guide === roles.shown ? shown : build(roles.guide);
  const fields = [...new Set([guide, shown])];
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
  for (const { table } of fields) {
    if (table && Math.max(table.rows, table.width) > most) {
      throw new InvError(
        "limit",
        `the scene needs textures of ${table.width} x ${table.rows}; this device has ${most}`,
      );
    }
  }
  const block = gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE) as number;
  const buffered = 16 * layers.size <= block;
  const held = buffered
    ? `layout(std140) uniform Layers { vec4 layer[${layers.size}]; };\nvec4 weights(int i) { return layer[i]; }`
    : `uniform highp sampler2D layerTexels;
vec4 weights(int i) { return texelFetch(layerTexels, ivec2(i & ${LAYER_ROW - 1}, i >> ${Math.log2(LAYER_ROW)}), 0); }`;
  const shader = `#version 300 es
precision highp float;
precision highp int;
${held}
mat4 columns(int i) { return mat4(weights(i), weights(i + 1), weights(i + 2), weights(i + 3)); }
${rayShader(roles.space.kind)}
${marchShader(guide, shown)}
${MAIN(shown, head.background === null)}`;
  return { roles, fields, layers, buffered, shader };
}

/** A texture whose texels are fetched one by one. */
function texture(gl: WebGL2RenderingContext, target: number = gl.TEXTURE_2D): WebGLTexture {
  const made = gl.createTexture();
  gl.bindTexture(target, made);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(target, name, gl.NEAREST);
  return made;
}
