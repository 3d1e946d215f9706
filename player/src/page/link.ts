/** Addresses of a moment and a view: `#t=1.4&camera=cam00`, `#t=1.4&pose=...` with 12 numbers, camera to world. */

export interface Moment {
  /** In seconds. */
  time: number | null;
  camera: string | null;
  pose: number[] | null;
}

const short = (value: number): string => String(Number(value.toPrecision(6)));

export function momentOf(hash: string): Moment {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const number = (text: string | null): number | null =>
    text?.trim() && Number.isFinite(Number(text)) ? Number(text) : null;
  const pose = (fields.get("pose") ?? "").split(",").map(number);
  const sound = pose.length === 12 && pose.every((value): value is number => value !== null);
  return { time: number(fields.get("t")), camera: fields.get("camera"), pose: sound ? (pose as number[]) : null };
}

export function hashOf({ time, camera, pose }: Moment): string {
  const fields = time === null ? [] : [`t=${short(time)}`];
  if (camera !== null) fields.push(`camera=${encodeURIComponent(camera)}`);
  else if (pose) fields.push(`pose=${pose.map(short).join(",")}`);
  return `#${fields.join("&")}`;
}
