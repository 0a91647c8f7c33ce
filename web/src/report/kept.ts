// What the sweep kept, and why.

import type { Report } from "../shapes/report.ts";
import { formatBytes } from "./amounts.ts";
import { type Fields, fields, is, list, number, string } from "./fields.ts";
import { line, type Line } from "./lines.ts";

const MOST_KEPT = 3;

/** The largest first, the rest counted; what holds nothing is left out. */
export function kept(report: Fields<Report>): Line[] {
  const rows = list(report.kept)
    .map((each) => fields(each))
    .filter((row) => !is(row.bytes, 0))
    .sort((one, other) => (number(other.bytes) ?? -1) - (number(one.bytes) ?? -1));
  const lines = rows.slice(0, MOST_KEPT).map((row) => {
    const bytes = number(row.bytes);
    return line("kept", string(row.what), bytes === null ? "" : formatBytes(bytes), string(row.reason));
  });
  const more = rows.slice(MOST_KEPT);
  if (more.length > 0) {
    lines.push(line("kept", `and ${more.length} more`, "", more.map((row) => string(row.what)).join(", ")));
  }
  return lines;
}
