/** FORMAT.md "Coordinate mapping": the space of a network. */

import type { Value } from "../container/canonical";
import { list, name, nullable, type Rule, real } from "../container/fields";
import type { Network } from "../container/head";
import { need } from "../errors";

export interface Space {
  kind: "ndc" | "box" | "contract";
  /** Axes and origin in the world, 3 rows of 4. */
  pose: number[];
  low: number[];
  /** The far plane of `ndc`, the third number, may be infinite. */
  high: number[];
}

/**
 * The space of a network that is sampled along rays.
 *
 * @throws InvError damaged; unsupported: an unknown kind
 */
export function spaceOf(network: Network): Space {
  const what = `the space of network ${network.name}`;
  const get = <T>(key: string, rule: Rule<T>): T => rule(network.space.get(key), `${what}: ${key}`);
  const kind = get("kind", name);
  const pose = get("pose", list(real(), 12));
  need(kind === "ndc" || kind === "box" || kind === "contract", "unsupported", `${what} is of kind ${kind}`);
  const low = get("low", list(real(), 3));
  const high = get("high", list(nullable(real()), 3)).map((value) => value ?? Infinity);
  const sound = low.every((value, axis) => {
    const mayBeEndless = kind === "ndc" && axis === 2;
    const extent = high[axis]! - value;
    return extent > 0 && (Number.isFinite(extent) || (mayBeEndless && high[axis] === Infinity));
  });
  need(sound, "damaged", `${what} is empty or endless`);
  need(kind !== "ndc" || low[2]! > 0, "damaged", `${what} begins behind its camera`);
  return { kind, pose, low, high };
}

/** Whether two structured fields are the same. */
export function sameValue(a: Value | undefined, b: Value | undefined): boolean {
  const text = (value: Value | undefined) =>
    JSON.stringify(value, (_, each) => {
      if (each instanceof Map) return { map: [...each].sort(([one], [other]) => (one < other ? -1 : 1)) };
      return typeof each === "bigint" ? { integer: `${each}` } : each;
    });
  return text(a) === text(b);
}
