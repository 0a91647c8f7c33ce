// What a node shows: a headline, a badge and lines.

/** Between what was and what is. */
export const ARROW = "\u2192";

/** What a line is about; each kind has a look of its own. */
export type LineKind = "total" | "part" | "step" | "problem" | "stayed" | "kept" | "note";

/** One line: what, how much, and why. */
export interface Line {
  kind: LineKind;
  label: string;
  value: string;
  /** A second, quieter text: the reason, or how the value came about. */
  detail: string;
}

/** Everything a node shows. */
export interface NodeReport {
  headline: string;
  /** The level, and what was asked for where that is more. */
  badge: string;
  lines: Line[];
  /** The whole report as text. */
  text: string;
}

export function line(kind: LineKind, label: string, value = "", detail = ""): Line {
  return { kind, label, value, detail };
}
