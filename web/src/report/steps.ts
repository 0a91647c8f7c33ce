// The steps of a sweep and what came of them.

import type { Action, Outcome, Owner, Report, Row } from "../shapes/report.ts";
import { change, formatBytes, size } from "./amounts.ts";
import { type Fields, fields, is, list, number, type Promised, string } from "./fields.ts";
import { line, type Line } from "./lines.ts";
import { olderGave } from "./older.ts";
import { gaveText, isProcess, places } from "./places.ts";

const VERBS: Readonly<Record<Action["kind"], string>> = {
  evict: "Drop",
  collect: "Collect",
  synchronize: "Wait for",
  unload: "Unload",
  empty_device_cache: "Empty",
  empty_host_cache: "Empty",
  drop_file_cache: "Drop",
  park: "Park",
  destroy: "Destroy",
  trim_heap: "Trim",
  system_wide: "Release",
};

/** Steps that did something or failed, a line each; the others folded into one line. */
export function steps(report: Fields<Report>): Line[] {
  const lines: Line[] = [];
  const idle: string[] = [];
  for (const each of list(report.rows)) {
    const row = fields(each);
    const shown = ran(row);
    if (shown !== null) lines.push(...shown);
    else if (is(report.dry_run, true)) lines.push(line("step", name(row), estimated(row), string(row.reason)));
    else if (name(row) !== "") idle.push(notRun(row));
  }
  if (idle.length > 0) {
    const label = idle.length === 1 ? "1 step not run" : `${idle.length} steps not run`;
    lines.push(line("note", label, "", idle.join("; ")));
  }
  return lines;
}

/** The lines of a step that ran, or was tried; null for any other. */
function ran(row: Fields<Row>): Line[] | null {
  const outcome = fields(row.outcome);
  const what = name(row);
  switch (string(outcome.kind)) {
    case "done":
      // Waiting makes the other numbers true; it gives nothing back by itself.
      if (is(fields(row.action).kind, "synchronize")) return [];
      return [
        line("step", what, measured(row), string(outcome.detail) || string(row.reason)),
        ...notSeen(row, number(outcome.claimed)),
      ];
    case "parked":
      return [
        line("step", what, measured(row), `${size(number(outcome.bytes))} moved to ${string(outcome.folder)}`),
        ...notSeen(row, number(outcome.bytes)),
        ...parked(outcome),
        ...stayed(outcome),
      ];
    case "destroyed":
      return [
        line("step", what, measured(row), string(row.reason)),
        ...notSeen(row, null),
        ...list(outcome.owners).map(destroyed),
        ...stayed(outcome),
      ];
    case "failed":
      return [line("problem", what, "failed", string(outcome.error))];
    case "cancelled":
      return [line("problem", what, "cancelled")];
    default:
      return null;
  }
}

function notRun(row: Fields<Row>): string {
  const why = string(fields(row.outcome).reason);
  return why === "" ? name(row) : `${name(row)}: ${why}`;
}

/** The report names what a step concerns; the action says what is done to it. */
function name(row: Fields<Row>): string {
  const kind = string(fields(row.action).kind);
  const what = string(row.what);
  return isKnown(kind) ? `${VERBS[kind]} ${what}` : what;
}

function isKnown(kind: string): kind is Action["kind"] {
  return Object.hasOwn(VERBS, kind);
}

/** What the step gave back as measured: every place that moved, or that nobody could measure it. */
function measured(row: Fields<Row>): string {
  if (is(row.verdict, "outside_process")) {
    const claimed = number(fields(row.outcome).claimed);
    return claimed === null ? "done" : `${formatBytes(claimed)} claimed`;
  }
  const gave = "gave" in row ? places(row.gave) : olderGave(row);
  const parts = gave.map((each) => (isProcess(each) ? change(each.bytes) : gaveText(each)));
  return parts.join(", ") || "not measured";
}

function estimated(row: Fields<Row>): string {
  const bytes = number(row.estimated);
  return bytes === null ? "unknown" : `about ${formatBytes(bytes)}`;
}

/** A step that says it released bytes which no reading shows: the claim must not pass for a result. */
function notSeen(row: Fields<Row>, bytes: number | null): Line[] {
  if (!is(row.verdict, "claim_not_seen")) return [];
  return [line("problem", "the readings do not show it", bytes === null ? "" : `${formatBytes(bytes)} claimed`)];
}

/** What is worth knowing about parking beside what it moved. */
function parked(outcome: Fields<Outcome>): Line[] {
  const parts: [string, number | null][] = [
    ["already on disk, not written again", number(outcome.already)],
    ["back in memory, of everything parked", number(outcome.in_memory)],
  ];
  const lines = parts.flatMap(([label, bytes]) => ((bytes ?? 0) > 0 ? [line("part", label, size(bytes))] : []));
  const why = string(fields(outcome.stopped).reason);
  return why === "" ? lines : [...lines, line("problem", "Parking ended early", "", why)];
}

function destroyed(value: Promised<Owner>): Line {
  const owner = fields(value);
  const tensors = number(owner.tensors) ?? 0;
  const count = tensors === 1 ? "1 tensor" : `${tensors} tensors`;
  return line("part", `${count} of ${string(owner.name)}`, size(number(owner.bytes)));
}

/** Memory that a step left alone, by reason. */
function stayed(outcome: Fields<Outcome>): Line[] {
  return list(outcome.refused).map((each) => {
    const { reason, bytes } = fields(each);
    return line("kept", string(reason), size(number(bytes)), "stayed in memory");
  });
}
