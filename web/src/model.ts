// Report JSON -> the lines a node shows. Pure: no DOM, no ComfyUI.
//
// It shows what the report says and decides nothing. It is total: a field that is missing or of
// the wrong type gives no line, and a report of an unknown schema is shown as its plain text.

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
    return { headline: levels(record(report["reading"])), badge: "reading", lines: sheet(text), text };
  }
  if (report["schema"] !== SCHEMA) {
    const summary = text.split("\n", 1)[0] ?? "";
    return summary === "" ? null : { headline: summary, badge: "", lines: plainLines(text, summary), text };
  }
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

function plainLines(text: string, headline: string): Line[] {
  return text
    .split("\n")
    .filter((each) => each.trim() !== "" && each !== headline)
    .map((each) => line("note", each));
}

/** The answer in one line. The log's summary says the same in more words. */
function headline(report: Fields): string {
  if (report["dry_run"] === true) return "Dry run: nothing was released";
  const parts = changes(report);
  if (report["cancelled"] === true) parts.unshift("Cancelled");
  const failed = list(report["rows"]).filter((row) => record(record(row)["outcome"])["kind"] === "failed");
  if (failed.length > 0) parts.push(failed.length === 1 ? "1 step failed" : `${failed.length} steps failed`);
  return parts.join(", ");
}

function changes(report: Fields): string[] {
  const freed = record(report["freed"]);
  const ram = processChange(freed);
  // What the system charges may hold a device's memory too.
  const what = number(freed["process_charged"]) === null ? "RAM" : "Memory";
  const parts = [ram === null ? "RAM not measured" : `${what} ${change(ram)}`];
  for (const each of list(freed["devices"])) {
    const device = record(each);
    const bytes = number(device["ours"]);
    if (bytes !== null) parts.push(`${string(device["id"])} ${change(bytes)}`);
  }
  return parts;
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

/** A balance sheet's text, line by line: `name: amount`, the parts of a total indented. */
function sheet(text: string): Line[] {
  return text
    .split("\n")
    .filter((each) => each.trim() !== "")
    .map((each) => {
      const cut = each.lastIndexOf(": ");
      if (cut < 0) return line("note", each.trim());
      const kind = each.startsWith(" ") ? "part" : "total";
      return line(kind, each.slice(0, cut).trim(), each.slice(cut + 2));
    });
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

/** What the step gave back as measured: RAM and every device, or that nobody could measure it. */
function measured(row: Fields): string {
  if (row["verdict"] === "outside_process") {
    const claimed = number(record(row["outcome"])["claimed"]);
    return claimed === null ? "done" : `${formatBytes(claimed)} claimed`;
  }
  const freed = record(row["measured"]);
  const ram = processChange(freed);
  const parts = list(freed["devices"]).map(record).map(deviceChange).filter((part) => part !== "");
  // The device's change alone says it all while RAM stands still.
  if (parts.length === 0 || (ram !== null && ram !== 0)) parts.unshift(change(ram));
  return parts.join(", ");
}

/** What the process gave back: on Windows and macOS what the system charges it with, else private RAM, else resident RAM. */
function processChange(freed: Fields): number | null {
  return number(freed["process_charged"]) ?? number(freed["process_anonymous"]) ?? number(freed["process_resident"]);
}

/** The outermost number of ours that moved: what we gave back, else torch's cache, else tensors inside it. */
function deviceChange(device: Fields): string {
  const id = string(device["id"]);
  for (const [field, name] of [["ours", id], ["torch_reserved", `${id} torch`], ["torch_allocated", `${id} tensors`]] as const) {
    const bytes = number(device[field]) ?? 0;
    if (bytes !== 0) return `${name} ${change(bytes)}`;
  }
  return "";
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

type Fields = Record<string, unknown>;

function record(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function byId(devices: unknown, id: string): Fields {
  return list(devices).map(record).find((device) => device["id"] === id) ?? {};
}
