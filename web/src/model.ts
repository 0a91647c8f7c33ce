// Report JSON -> the lines a node shows. Pure: no DOM, no ComfyUI.
//
// It shows what the report says and decides nothing; texts for people are shown and never taken
// apart. It is total: a field that is missing or of the wrong type gives no line, and a report of an
// unknown schema is shown as its plain text.

import { type Fields, list, number, record, string } from "./fields.ts";
import { olderGave, olderHeadline, olderLines } from "./older.ts";

/** The version of the report's JSON that these lines are made from. */
export const SCHEMA = 1;

/** The nodes that carry a report, by class key. */
export const NODE_KEYS: ReadonlySet<string> = new Set([
  "FreeMemoryImage",
  "FreeMemoryLatent",
  "FreeMemoryModel",
  "FreeMemoryCLIP",
  "FreeMemoryString",
  "CleanMemory_PurgeVRAM",
  "CleanMemory_PurgeRAM",
  "CleanMemory_PurgeAll",
  "CleanMemory_PurgePass",
  "CleanMemory_PurgeRAMProtectedMulti",
  "CleanMemory_PurgePassMultiInput",
  "MemSweepFree",
  "MemSweepReleaseModel",
  "MemSweepReport",
]);

/** What a line speaks of; the page gives each kind its own look. */
export type LineKind = "total" | "part" | "step" | "problem" | "kept" | "note";

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
  /** The whole report as text, for a tooltip. */
  text: string;
}

const MOST_KEPT = 3;
const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];
const ARROW = "\u2192";

/** A size in binary units; the same text as the library's. */
export function formatBytes(bytes: number): string {
  const sign = bytes < 0 ? "-" : "";
  let value = Math.abs(bytes);
  if (value < 1024) return `${sign}${value} B`;
  value /= 1024;
  let unit = 0;
  // 1023.95 would round up to "1024.0"; the next unit reads better.
  while (value >= 1023.95 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit += 1;
  }
  return `${sign}${value.toFixed(1)} ${UNITS[unit]}`;
}

/** What the `executed` message of one of our nodes says, or null if it says nothing. */
export function nodeReport(output: unknown): NodeReport | null {
  const message = record(list(record(output)["memsweep"])[0]);
  const text = string(message["text"]);
  const report = parsed(message["report"]);
  if (report["schema"] === SCHEMA && "reading" in report) {
    return { headline: levels(record(report["reading"])), badge: "reading", lines: sheet(report, text), text };
  }
  if (report["schema"] !== SCHEMA) return withoutReport(record(message["problem"]), text);
  return {
    headline: headline(report),
    badge: badge(report),
    lines: [
      ...totals(report),
      ...steps(report),
      ...goal(report),
      ...kept(report),
      ...list(report["notes"]).map((note) => line("note", string(note))),
    ].filter(({ label }) => label !== ""),
    text,
  };
}

/** The report, which comes as JSON text. */
function parsed(text: unknown): Fields {
  try {
    return record(JSON.parse(string(text)));
  } catch {
    return {};
  }
}

/** Why there is no report, or the text of one that this page cannot read. */
function withoutReport(problem: Fields, text: string): NodeReport | null {
  const what = string(problem["what"]);
  if (what !== "") return { headline: what, badge: "", lines: [line("problem", string(problem["why"]))], text };
  const [summary = "", ...more] = text.split("\n");
  if (summary === "") return null;
  return { headline: summary, badge: "", lines: more.filter((each) => each.trim() !== "").map((each) => line("note", each)), text };
}

/** The answer in one line. The log's summary says the same in more words. */
function headline(report: Fields): string {
  if (report["dry_run"] === true) return "Dry run: nothing was released";
  const told = "headline" in report ? record(report["headline"]) : olderHeadline(report);
  const freed = list(told["freed"]).map(record);
  const parts = freed.map(gave).filter((part) => part !== "");
  if (!freed.some(isProcess)) parts.unshift("RAM not measured");
  const parked = number(told["parked"]) ?? 0;
  if (parked > 0) parts.push(`${formatBytes(parked)} moved to disk`);
  if (report["cancelled"] === true) parts.unshift("Cancelled");
  const failed = number(told["failed_steps"]) ?? 0;
  if (failed > 0) parts.push(failed === 1 ? "1 step failed" : `${failed} steps failed`);
  return parts.join(", ");
}

/** What one place gave back. The report says which number speaks for it. */
function gave(each: Fields): string {
  const bytes = number(each["bytes"]);
  if (bytes === null) return "";
  const place = string(each["place"]);
  const names: Record<string, string> = {
    charged: "Memory",
    private: "RAM",
    resident: "Resident RAM",
    tensors: `${place} tensors`,
    all_programs: `${place}, all programs:`,
  };
  return `${names[string(each["measure"])] ?? place} ${change(bytes)}`;
}

function isProcess(each: Fields): boolean {
  return each["place"] === "process";
}

function levels(reading: Fields): string {
  const process = record(reading["process"]);
  const ram = number(process["resident"]) ?? number(process["anonymous"]);
  const parts = [ram === null ? "RAM unknown" : `RAM ${formatBytes(ram)}`];
  for (const each of list(reading["devices"])) {
    const device = record(each);
    const bytes = number(device["used"]) ?? number(device["torch_reserved"]);
    if (bytes !== null) parts.push(`${string(device["id"])} ${formatBytes(bytes)}`);
  }
  return parts.join(", ");
}

/** A balance sheet, line by line, and the models that ComfyUI manages. */
function sheet(report: Fields, text: string): Line[] {
  if (!("lines" in report)) return olderLines(text).map(({ part, name, value }) => line(part ? "part" : "total", name, value));
  const lines = list(report["lines"]).map((each) => {
    const { name, bytes, part } = record(each);
    return line(part === true ? "part" : "total", string(name), size(bytes));
  });
  const models = list(report["models"]).map((each) => {
    const { name, device, bytes } = record(each);
    return line("total", `model ${string(name)} on ${string(device)}`, `${size(bytes)} loaded`);
  });
  return [...lines, ...models].filter(({ label }) => label !== "");
}

function badge(report: Fields): string {
  const level = string(report["level"]);
  const requested = string(report["requested_level"]);
  const shown = requested !== "" && requested !== level ? `${requested} ${ARROW} ${level}` : level;
  return report["dry_run"] === true ? `${shown} (dry run)` : shown;
}

/** The process and each device, before and after. */
function totals(report: Fields): Line[] {
  const freed = record(report["freed"]);
  const before = record(report["before"]);
  const after = record(report["after"]);
  const was = record(before["process"]);
  const now = record(after["process"]);
  const lines = [
    total("Private RAM", was["anonymous"], now["anonymous"], freed["process_anonymous"]),
    total("Commit charge", was["commit"], now["commit"], freed["process_charged"]),
    total("Footprint", was["footprint"], now["footprint"], freed["process_charged"]),
  ];
  // Where the system charges by another measure, resident RAM also falls when nothing was freed.
  if (number(freed["process_charged"]) === null) {
    lines.push(total("Resident RAM", was["resident"], now["resident"], freed["process_resident"]));
  }
  for (const each of list(after["devices"])) {
    const device = record(each);
    const id = string(device["id"]);
    const then = byId(before["devices"], id);
    const gave = byId(freed["devices"], id);
    lines.push(
      total(`${id}, all programs`, then["used"], device["used"], gave["used"]),
      total(`${id} torch`, then["torch_reserved"], device["torch_reserved"], gave["torch_reserved"]),
    );
  }
  return lines.filter((each) => each !== null);
}

function total(label: string, before: unknown, after: unknown, freed: unknown): Line | null {
  const was = number(before);
  const now = number(after);
  if (was === null || now === null) return null;
  return line("total", label, change(number(freed)), `${formatBytes(was)} ${ARROW} ${formatBytes(now)}`);
}

/** Steps that did something or failed, a line each; the others folded into one line. */
function steps(report: Fields): Line[] {
  const lines: Line[] = [];
  const idle: string[] = [];
  for (const each of list(report["rows"])) {
    const row = record(each);
    const outcome = record(row["outcome"]);
    const what = step(row);
    const why = string(outcome["reason"]) || string(outcome["error"]);
    switch (outcome["kind"]) {
      case "done":
        // Waiting makes the other numbers true; it gives nothing back by itself.
        if (record(row["action"])["kind"] === "synchronize") break;
        lines.push(line("step", what, measured(row), string(outcome["detail"]) || string(row["reason"])));
        if (row["verdict"] === "claim_not_seen") lines.push(notSeen(outcome));
        break;
      case "parked":
        lines.push(line("step", what, measured(row), `${size(outcome["bytes"])} moved to ${string(outcome["folder"])}`));
        if (row["verdict"] === "claim_not_seen") lines.push(notSeen({ claimed: outcome["bytes"] }));
        lines.push(...parked(outcome), ...stayed(outcome));
        break;
      case "destroyed":
        lines.push(line("step", what, measured(row), string(row["reason"])));
        lines.push(...list(outcome["owners"]).map((each) => destroyed(record(each))), ...stayed(outcome));
        break;
      case "failed":
        lines.push(line("problem", what, "failed", why));
        break;
      case "cancelled":
        lines.push(line("problem", what, "cancelled", why));
        break;
      default:
        if (report["dry_run"] === true) lines.push(line("step", what, estimated(row), string(row["reason"])));
        else if (what !== "") idle.push(why === "" ? what : `${what}: ${why}`);
    }
  }
  if (idle.length > 0) {
    const label = idle.length === 1 ? "1 step not run" : `${idle.length} steps not run`;
    lines.push(line("note", label, "", idle.join("; ")));
  }
  return lines;
}

function size(bytes: unknown): string {
  const known = number(bytes);
  return known === null ? "unknown" : formatBytes(known);
}

/** What is worth knowing of a park step beside what it moved. */
function parked(outcome: Fields): Line[] {
  const lines = [
    ["on disk before, not written again", number(outcome["already"])],
    ["of all that is parked, in memory again", number(outcome["in_memory"])],
  ].filter((each): each is [string, number] => typeof each[1] === "number" && each[1] > 0);
  const shown = lines.map(([label, bytes]) => line("part", label, formatBytes(bytes)));
  const why = string(outcome["stopped"]);
  return why === "" ? shown : [...shown, line("problem", "Parking ended early", "", why)];
}

function destroyed(owner: Fields): Line {
  const tensors = number(owner["tensors"]) ?? 0;
  const count = tensors === 1 ? "1 tensor" : `${tensors} tensors`;
  return line("part", `${count} of ${string(owner["name"])}`, size(owner["bytes"]));
}

/** Memory that a step left alone, by reason. */
function stayed(outcome: Fields): Line[] {
  return list(outcome["refused"]).map((each) => {
    const row = record(each);
    return line("kept", string(row["reason"]), size(row["bytes"]), "stayed in memory");
  });
}

function goal(report: Fields): Line[] {
  if (report["goal"] === null || report["goal"] === undefined) return [];
  const met = report["goal_met"];
  const label = met === true ? "The goal was met." : met === false ? "The goal was not met." : "Nobody can tell whether the goal was met.";
  return [line("note", label)];
}

const VERBS: Readonly<Record<string, string>> = {
  evict: "Drop",
  collect: "Collect",
  synchronize: "Wait for",
  unload: "Unload",
  empty_device_cache: "Empty",
  empty_host_cache: "Empty",
  drop_file_cache: "Drop",
  trim_heap: "Trim",
  park: "Park",
  destroy: "Destroy",
  system_wide: "Release",
};

/** The report names what a step concerns; the action says what is done to it. */
function step(row: Fields): string {
  const verb = VERBS[string(record(row["action"])["kind"])];
  const what = string(row["what"]);
  return verb === undefined ? what : `${verb} ${what}`;
}

/** The largest first; what holds nothing is left out. */
function kept(report: Fields): Line[] {
  const rows = list(report["kept"])
    .map(record)
    .filter((row) => row["bytes"] !== 0)
    .sort((one, other) => (number(other["bytes"]) ?? -1) - (number(one["bytes"]) ?? -1));
  const lines = rows.slice(0, MOST_KEPT).map((row) => {
    const bytes = number(row["bytes"]);
    return line("kept", string(row["what"]), bytes === null ? "" : formatBytes(bytes), string(row["reason"]));
  });
  const more = rows.slice(MOST_KEPT);
  if (more.length > 0) {
    lines.push(line("kept", `and ${more.length} more`, "", more.map((row) => string(row["what"])).join(", ")));
  }
  return lines;
}

/** A step that says it released bytes which no reading shows: the claim must not pass for a result. */
function notSeen(outcome: Fields): Line {
  const claimed = number(outcome["claimed"]);
  return line("problem", "its claim was not seen", claimed === null ? "" : `${formatBytes(claimed)} claimed`);
}

/** What the step gave back as measured: every place that moved, or that nobody could measure it. */
function measured(row: Fields): string {
  if (row["verdict"] === "outside_process") {
    const claimed = number(record(row["outcome"])["claimed"]);
    return claimed === null ? "done" : `${formatBytes(claimed)} claimed`;
  }
  const places = "gave" in row ? list(row["gave"]).map(record) : olderGave(row);
  const parts = places.map((each) => (isProcess(each) ? change(number(each["bytes"])) : gave(each)));
  return parts.filter((part) => part !== "").join(", ") || "not measured";
}

function estimated(row: Fields): string {
  const bytes = number(row["estimated"]);
  return bytes === null ? "unknown" : `about ${formatBytes(bytes)}`;
}

/** A signed change in words; positive means given back. */
function change(bytes: number | null): string {
  if (bytes === null) return "not measured";
  if (bytes === 0) return "unchanged";
  return bytes > 0 ? `${formatBytes(bytes)} freed` : `${formatBytes(-bytes)} more`;
}

function line(kind: LineKind, label: string, value = "", detail = ""): Line {
  return { kind, label, value, detail };
}

function byId(devices: unknown, id: string): Fields {
  return list(devices).map(record).find((device) => device["id"] === id) ?? {};
}
