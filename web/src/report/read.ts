// A node's output -> what the node shows. Nothing in this folder knows the DOM or ComfyUI.
//
// It shows what the report says and decides nothing; texts for people are shown and never taken
// apart. It is total: a field that is missing or of the wrong type gives no line, and a report of an
// unknown schema is shown as its plain text.

import type { MemoryReport, Report } from "../shapes/report.ts";
import { size } from "./amounts.ts";
import { type Fields, fields, given, is, list, number, promised, string } from "./fields.ts";
import { badge, headline } from "./headline.ts";
import { kept } from "./kept.ts";
import { line, type Line, type NodeReport } from "./lines.ts";
import type { Output, Problem } from "./message.ts";
import { upgraded } from "./older.ts";
import { balance, levels } from "./reading.ts";
import { rest } from "./rest.ts";
import { steps } from "./steps.ts";
import { totals } from "./totals.ts";

/** The version of the JSON that this reads. */
const SCHEMA = 2;

/** What a node shows after it ran; null where its output says nothing. */
export function nodeReport(output: unknown): NodeReport | null {
  const message = fields(list(fields(promised<Output>(output)).memsweep)[0]);
  const text = string(message.text);
  const json = upgraded(parsed(string(message.report)));
  const report = fields(promised<Report>(json));
  if (!is(report.schema, SCHEMA)) return withoutReport(fields(message.problem), text);
  const memory = fields(promised<MemoryReport>(json));
  if ("reading" in memory) {
    return { headline: levels(memory.reading), badge: "reading", lines: named(balance(memory, text)), text };
  }
  return { headline: headline(report), badge: badge(report), lines: named(sweepLines(report)), text };
}

/** Whether its sweep ran when the prompt had ended, which ComfyUI took the node's data from the cache for. */
export function ranAtEnd(output: unknown): boolean {
  return is(fields(list(fields(promised<Output>(output)).memsweep)[0]).at_end, true);
}

function sweepLines(report: Fields<Report>): Line[] {
  return [
    ...stayed(report),
    ...totals(report),
    ...turns(report),
    ...steps(report),
    ...goal(report),
    ...kept(report),
    ...rest(report.rest),
    ...list(report.notes).map((note) => line("note", string(fields(note).reason))),
  ];
}

/** The largest thing that was not freed, and what would free it. */
function stayed(report: Fields<Report>): Line[] {
  const { what, bytes, reason, advice } = fields(report.stayed);
  if (string(what) === "") return [];
  return [line("stayed", `Not freed: ${string(what)}`, size(number(bytes)), `${string(reason)}; ${string(advice)}`)];
}

/** The turns of a loop that the report sums up. */
function turns(report: Fields<Report>): Line[] {
  const count = number(report.turns) ?? 1;
  return count > 1 ? [line("note", `Given back in ${count} turns. What follows is from the last one.`)] : [];
}

/** A line that does not say what it is about says nothing. */
function named(lines: Line[]): Line[] {
  return lines.filter(({ label }) => label !== "");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Why there is no report, or the text of one that this page cannot read. */
function withoutReport(problem: Fields<Problem>, text: string): NodeReport | null {
  const what = string(problem.what);
  if (what !== "") return { headline: what, badge: "", lines: [line("problem", string(problem.why))], text };
  const [summary = "", ...more] = text.split("\n");
  if (summary === "") return null;
  const lines = more.filter((each) => each.trim() !== "").map((each) => line("note", each));
  return { headline: summary, badge: "", lines, text };
}

function goal(report: Fields<Report>): Line[] {
  if (!given(report.goal)) return [];
  if (is(report.goal_met, true)) return [line("note", "The goal was met.")];
  if (is(report.goal_met, false)) return [line("note", "The goal was not met.")];
  return [line("note", "It is unknown whether the goal was met.")];
}
