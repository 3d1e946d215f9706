/** FORMAT.md "Roles": what each network of a file is for. */

import type { Head } from "../container/head";
import { need } from "../errors";
import { AFFINE, checkProfile } from "./profiles";
import { type Space, sameValue, spaceOf } from "./space";

/** Which networks make the picture, as indices into `head.networks`. */
export interface Roles {
  /** Sampled and composited to the picture. */
  shown: number;
  /** Sampled first to guide `shown`, which is the same in a file with one network. */
  guide: number;
  /** Colours of cameras; null: there are none. */
  cameraColour: number | null;
  space: Space;
}

/**
 * Find the networks of a picture, and check all that a renderer relies on.
 *
 * @throws InvError damaged, unsupported, limit
 */
export function rolesOf(head: Head): Roles {
  const { networks } = head;
  need(head.colourSpace === "srgb", "unsupported", `the colour space is ${head.colourSpace}, not known here`);
  networks.forEach(checkProfile);
  const indices = networks.map((_, i) => i);
  const of = (role: string) => indices.filter((i) => networks[i]!.role === role);
  const scene = of("scene");
  const coarse = of("coarse");
  const fine = of("fine");
  const colours = of("camera-colour");
  const counts = [scene.length, coarse.length, fine.length].join();
  const known = scene.length + coarse.length + fine.length + colours.length === networks.length;
  const combines = known && (counts === "1,0,0" || counts === "0,1,1") && colours.length <= 1;
  need(combines, "unsupported", `networks of roles ${networks.map(({ role }) => role).join(", ")} are not known here`);
  for (const { name, role, profile, config, space } of networks) {
    const isColour = role === "camera-colour";
    need((profile === AFFINE) === isColour, "unsupported", `network ${name} has role ${role} and profile ${profile}`);
    if (!isColour) continue;
    need(space.size === 0, "damaged", `network ${name} has a space, but role ${role}`);
    need(config.cameras === head.cameras.length, "damaged", `network ${name} is not for the cameras of the file`);
  }
  const shown = scene[0] ?? fine[0]!;
  const guide = scene[0] ?? coarse[0]!;
  const same = sameValue(networks[shown]!.space, networks[guide]!.space);
  need(same, "unsupported", "networks of different spaces are not known here");
  return { shown, guide, cameraColour: colours[0] ?? null, space: spaceOf(networks[shown]!) };
}
