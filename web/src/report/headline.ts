// The answer in one line, and the badge beside it.

import type { Gave, Headline, Report } from "../shapes/report.ts";
import { formatBytes } from "./amounts.ts";
import { type Fields, fields, is, number, type Promised, string } from "./fields.ts";
import { ARROW } from "./lines.ts";
import { olderHeadline } from "./older.ts";
import { gaveText, isProcess, places } from "./places.ts";

/** The log's summary says the same in more words. */
export function headline(report: Fields<Report>): string {
  if (is(report.dry_run, true)) return "Dry run: nothing was released";
  const { freed, parked, failed } = "headline" in report ? told(report.headline) : olderHeadline(report);
  const parts = freed.map(gaveText);
  if (!freed.some(isProcess)) parts.unshift("RAM not measured");
  if (parked > 0) parts.push(`${formatBytes(parked)} moved to disk`);
  if (is(report.cancelled, true)) parts.unshift("Cancelled");
  if (failed > 0) parts.push(failed === 1 ? "1 step failed" : `${failed} steps failed`);
  return parts.join(", ");
}

/** The level that was carried out, and the one asked for where that is another. */
export function badge(report: Fields<Report>): string {
  const level = string(report.level);
  const requested = string(report.requested_level);
  const shown = requested !== "" && requested !== level ? `${requested} ${ARROW} ${level}` : level;
  return is(report.dry_run, true) ? `${shown} (dry run)` : shown;
}

function told(value: Promised<Headline>): { freed: Gave[]; parked: number; failed: number } {
  const { freed, parked, failed_steps } = fields(value);
  return { freed: places(freed), parked: number(parked) ?? 0, failed: number(failed_steps) ?? 0 };
}
