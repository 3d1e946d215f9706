/** Rules for structured fields: each takes a value and gives it as its type, or throws. */

import { InvError, need } from "../errors";
import { Real, type Value } from "./canonical";
import type { Plain } from "./head";

/** Turns the value of a field, undefined if it is missing, into what it means; `what` names the field in messages. */
export type Rule<T> = (value: Value | undefined, what: string) => T;

function wrong(what: string, value: Value | undefined): InvError {
  return new InvError("damaged", `${what} is ${value === undefined ? "missing" : "not what it must be"}`);
}

function rule<T extends Value>(fits: (value: Value) => value is T): Rule<T> {
  return (value, what) => {
    if (value === undefined || !fits(value)) throw wrong(what, value);
    return value;
  };
}

export const map = rule((value): value is Map<string, Value> => value instanceof Map);
export const flag = rule((value): value is boolean => typeof value === "boolean");
export const text = rule((value): value is string => typeof value === "string");

const UTF8 = new TextEncoder();

/** A string of 1 to 255 bytes. */
export const name = rule((value): value is string => {
  return typeof value === "string" && value.length > 0 && value.length <= 255 && UTF8.encode(value).length <= 255;
});

export function integer(low: number, high: number = Number.MAX_SAFE_INTEGER): Rule<number> {
  return rule((value): value is number => typeof value === "number" && value >= low && value <= high);
}

/** An integer from `low` on; above `limit` the file is refused. */
export function limited(low: number, limit: number): Rule<number> {
  return (value, what) => {
    if (!isInteger(value) || value < low) throw wrong(what, value);
    need(value <= limit, "limit", `${what} is ${value}, more than ${limit}`);
    return Number(value);
  };
}

/** Any integer that the format can hold. */
export function isInteger(value: Value | undefined): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint";
}

export function real(low = -Infinity, high = Infinity): Rule<number> {
  return (value, what) => {
    if (!(value instanceof Real && value.value >= low && value.value <= high)) throw wrong(what, value);
    return value.value;
  };
}

/** A float above 0. */
export const positive = real(Number.MIN_VALUE);

export function optional<T>(inner: Rule<T>, absent: T): Rule<T> {
  return (value, what) => (value === undefined ? absent : inner(value, what));
}

export function nullable<T>(inner: Rule<T>): Rule<T | null> {
  return (value, what) => (value === null ? null : inner(value, what));
}

/** A list, of a fixed length if one is given. */
export function list<T>(inner: Rule<T>, length?: number): Rule<T[]> {
  return (value, what) => {
    if (!Array.isArray(value) || (length !== undefined && value.length !== length)) throw wrong(what, value);
    return value.map((each) => inner(each, what));
  };
}

/** A list of at least one; with more than `limit` the file is refused. */
export function counted<T>(inner: Rule<T>, limit: number): Rule<T[]> {
  return (value, what) => {
    if (!Array.isArray(value) || value.length === 0) throw wrong(what, value);
    need(value.length <= limit, "limit", `${what}: ${value.length} of them, more than ${limit}`);
    return value.map((each, index) => inner(each, `${what} ${index}`));
  };
}

export const ratio: Rule<[number, number]> = (value, what) => {
  return list(integer(1, 2 ** 31 - 1), 2)(value, what) as [number, number];
};

/** Any value, without the difference between integers and floats. */
export function plain(value: Value): Plain {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Real) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, each]) => [key, plain(each)]));
  return value;
}
