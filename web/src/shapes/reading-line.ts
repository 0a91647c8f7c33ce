// Written by `npm run shapes` from schemas/reading-line.json, which is made from the Rust types:
// edit those, not this file. Long because it holds all of its schema.

/**
 * A number of bytes. JSON carries the plain number; people see binary units.
 */
export type Bytes = number;

/**
 * One line of a reading for people.
 */
export interface ReadingLine {
  /**
   * Its size; `null` when unknown.
   */
  bytes: Bytes | null;
  /**
   * What it is.
   */
  name: string;
  /**
   * It is part of the nearest line above that is not a part itself.
   */
  part: boolean;
}
