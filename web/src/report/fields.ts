// JSON as it arrives: what the schemas promise, and perhaps something else. A history keeps reports of
// other versions, and a message can be broken. So the compiler knows every field's name and type, and
// still nothing is taken for what it should be before a function here has looked.

declare const type: unique symbol;

/** Should be a T, and may be anything or missing. */
export type Promised<T> = { readonly [type]?: T } | undefined;

/** The fields of an object that should be a T. Where T is a union, those of all its members. */
export type Fields<T> = { readonly [K in Keys<T>]?: Promised<Field<T, K>> };

type Keys<T> = T extends object ? keyof T : never;
type Field<T, K> = T extends object ? (K extends keyof T ? T[K] : never) : never;

/** A value from outside, by the name of what it should be. */
export function promised<T>(value: unknown): Promised<T> {
  return value as Promised<T>;
}

/** An object's fields; none where the value is no object. */
export function fields<T>(value: Promised<T>): Fields<T> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields<T>) : {};
}

export function list<T>(value: Promised<readonly T[] | null | undefined>): Promised<T>[] {
  return Array.isArray(value) ? value : [];
}

/** The text, "" where there is none. Of a fixed set of words it may be one that a later version added. */
export function string<T extends string>(value: Promised<T | null | undefined>): T | "" {
  const given: unknown = value;
  return typeof given === "string" ? (given as T) : "";
}

export function number(value: Promised<number | null | undefined>): number | null {
  const given: unknown = value;
  return typeof given === "number" && Number.isFinite(given) ? given : null;
}

/** Whether the value is this very one. */
export function is<T>(value: Promised<T>, wanted: NoInfer<T>): boolean {
  return (value as unknown) === wanted;
}

/** Whether there is a value at all. */
export function given(value: Promised<unknown>): boolean {
  return (value ?? null) !== null;
}
