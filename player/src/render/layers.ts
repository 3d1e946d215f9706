// Fully connected layers: their weights as vectors of four for the GPU, and the GLSL that multiplies them.

import type { NetworkState } from "../field/frame";

/** Columns `from` to `to` of a weight matrix [outputs, columns], and where they come in the vector they multiply. */
export interface Layer {
  /** Index of its network. */
  network: number;
  weight: string;
  bias: string | null;
  outputs: number;
  columns: number;
  from: number;
  to: number;
  /** Entries of the input vector before the first of these columns. They multiply 0. */
  skip: number;
  /** A layer without activation whose outputs are its inputs: the two are multiplied into one. null: none. */
  after: string | null;
  /** First vector of this layer in the buffer. */
  at: number;
}

export const quads = (count: number): number => Math.ceil(count / 4);
const inputQuads = (layer: Layer): number => quads(layer.skip + layer.to - layer.from);

/** The layers of all networks of a picture, one after the other in one buffer of vectors of four. */
export class Layers {
  private readonly list: Layer[] = [];
  private readonly products = new Map<Layer, Matrix>();
  private length = 0;

  /** Vectors of four in the buffer. */
  get size(): number {
    return this.length;
  }

  /**
   * @param name - of the tensors, without `.weight` and `.bias`.
   * @param part - what differs from a layer of all columns.
   */
  add(network: number, name: string, outputs: number, columns: number, part: Partial<Layer> = {}): Layer {
    const whole = { weight: `${name}.weight`, bias: `${name}.bias`, from: 0, to: columns, skip: 0, after: null };
    const layer = { network, outputs, columns, ...whole, ...part, at: this.length };
    this.length += quads(outputs) * (1 + 4 * inputQuads(layer));
    this.list.push(layer);
    return layer;
  }

  /**
   * The layers of a frame's networks: for each four outputs the biases, then a column of weights for each input. Every
   * frame has to be packed, or products of layers would miss what has changed.
   */
  pack(networks: NetworkState[], out: Float32Array): void {
    for (const layer of this.list) {
      const { weight, bias, columns, from, to } = this.matrixOf(layer, networks[layer.network]!);
      const inputs = inputQuads(layer);
      for (let row = 0; row < layer.outputs; row++) {
        const first = 4 * (layer.at + (row >> 2) * (1 + 4 * inputs)) + (row & 3);
        if (bias) out[first] = bias[row]!;
        for (let column = from; column < to; column++) {
          out[first + 4 * (1 + layer.skip + column - from)] = weight[row * columns + column]!;
        }
      }
    }
  }

  private matrixOf(layer: Layer, { tensors, changed }: NetworkState): Matrix {
    const { after, columns, from, to } = layer;
    const weight = tensors.get(layer.weight)!;
    if (after === null)
      return { weight, bias: layer.bias === null ? null : tensors.get(layer.bias)!, columns, from, to };
    const made = this.products.get(layer);
    const isStale = [layer.weight, `${after}.weight`, `${after}.bias`].some((name) => changed.has(name));
    if (made && !isStale) return made;
    const product = multiplied(layer, weight, tensors.get(`${after}.weight`)!, tensors.get(`${after}.bias`)!);
    this.products.set(layer, product);
    return product;
  }
}

/** Columns `from` to `to` of weights [outputs, columns], and biases. */
interface Matrix extends Pick<Layer, "columns" | "from" | "to"> {
  weight: Float32Array;
  bias: Float32Array | null;
}

/** A layer applied to the outputs of another, whose weights are [inner, inputs]; without the layer's own bias. */
function multiplied(
  { outputs, columns, from, to }: Layer,
  weight: Float32Array,
  other: Float32Array,
  offset: Float32Array,
): Matrix {
  const inner = to - from;
  const inputs = other.length / inner;
  const product = new Float32Array(outputs * inputs);
  const bias = new Float32Array(outputs);
  const sums = new Float64Array(inputs);
  for (let row = 0; row < outputs; row++) {
    sums.fill(0);
    let constant = 0;
    for (let k = 0; k < inner; k++) {
      const factor = weight[row * columns + from + k]!;
      constant += factor * offset[k]!;
      for (let column = 0; column < inputs; column++) sums[column]! += factor * other[k * inputs + column]!;
    }
    product.set(sums, row * inputs);
    bias[row] = constant;
  }
  return { weight: product, bias, columns: inputs, from: 0, to: inputs };
}

/**
 * GLSL that computes `y = act(layer x [+ more])` on arrays of vectors of four.
 *
 * Loops, since drivers compile them much faster than what is written out, and unroll them where that pays.
 *
 * @param act - GLSL of the result, from `sum`.
 * @param start - GLSL of what the products are added to, for the quad `i`; the layer's own bias if not given.
 */
export function apply(layer: Layer, x: string, y: string, act = "sum", start?: string): string {
  const inputs = inputQuads(layer);
  return `for (int i = 0; i < ${quads(layer.outputs)}; i++) {
    int at = ${layer.at} + i * ${1 + 4 * inputs};
    vec4 sum = ${start ?? "weights(at)"};
    for (int k = 0; k < ${inputs}; k++) sum += columns(at + 1 + 4 * k) * ${x}[k];
    ${y}[i] = ${act};
  }`;
}

export const RELU = "max(sum, 0.0)";

/** GLSL of an array of vectors of four from scalar expressions, the last one filled up with zeros. */
export function vectors(name: string, scalars: string[]): string {
  const rows = Array.from({ length: quads(scalars.length) }, (_, i) => {
    const four = [0, 1, 2, 3].map((k) => scalars[4 * i + k] ?? "0.0");
    return `${name}[${i}] = vec4(${four.join(", ")});`;
  });
  return `vec4 ${name}[${Math.max(1, rows.length)}];\n${rows.join("\n")}`;
}
