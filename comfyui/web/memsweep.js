// Built from web/src by `npm run build`. Edit the source, not this file.

// src/comfy.ts
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

// src/view.ts
var STYLE_ID = "memsweep-style";
var MOST_HEIGHT = 380;
var STYLE = `
.memsweep { box-sizing: border-box; height: 100%; overflow: auto; padding: 8px 10px;
  border-radius: 8px; font: 12px/1.45 Inter, system-ui, sans-serif; font-variant-numeric: tabular-nums;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222);
  user-select: text; cursor: auto; scrollbar-width: thin; }
.memsweep-head { display: flex; gap: 8px; align-items: baseline; justify-content: space-between; }
.memsweep-headline { font-weight: 600; overflow-wrap: anywhere; }
.memsweep-badge { flex: none; padding: 0 7px; border-radius: 999px; font-size: 11px; white-space: nowrap;
  color: var(--descrip-text, #999); border: 1px solid var(--border-color, #4e4e4e); }
.memsweep-stale { color: var(--descrip-text, #999); }
.memsweep-lines { margin-top: 4px; }
.memsweep-line { display: flex; flex-wrap: wrap; column-gap: 10px; }
.memsweep-first { margin-top: 5px; padding-top: 5px; border-top: 1px solid var(--border-color, #4e4e4e); }
.memsweep-what { flex: 1 1 0; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.memsweep-detail { color: var(--descrip-text, #999); }
.memsweep-value { flex: none; min-width: 84px; text-align: right; }
.memsweep-total { flex-wrap: nowrap; column-gap: 8px; }
.memsweep-total .memsweep-value { min-width: 0; }
.memsweep-total .memsweep-detail { white-space: nowrap; }
.memsweep-total .memsweep-value, .memsweep-step .memsweep-value { font-weight: 600; }
.memsweep-problem .memsweep-detail, .memsweep-kept .memsweep-detail { flex-basis: 100%; padding-left: 10px; overflow-wrap: anywhere; }
.memsweep-part { padding-left: 10px; color: var(--descrip-text, #999); }
.memsweep-problem .memsweep-value { color: var(--error-text, #ff6b6b); }
.memsweep-kept .memsweep-value { color: var(--descrip-text, #999); }
.memsweep-note { color: var(--descrip-text, #999); }
.memsweep-note .memsweep-what { white-space: normal; overflow-wrap: anywhere; }
`;
var ReportView = class {
  element = document.createElement("div");
  constructor() {
    this.element.className = "memsweep";
  }
  /** Shows a report instead of what was there. */
  show(report) {
    ensureStyle();
    const head = part("div", "memsweep-head");
    head.append(part("div", "memsweep-headline", report.headline));
    if (report.badge !== "") head.append(part("div", "memsweep-badge", report.badge));
    const lines = part("div", "memsweep-lines");
    let kind = report.lines[0]?.kind;
    for (const each of report.lines) {
      const row = lineElement(each);
      if (each.kind !== kind && starts(each)) row.classList.add("memsweep-first");
      kind = each.kind;
      lines.append(row);
    }
    this.element.replaceChildren(head, lines);
    this.element.scrollTop = 0;
  }
  /** Says that the node did not run this time, so that nobody takes the report for a new one. */
  markStale() {
    if (this.element.querySelector(".memsweep-stale") !== null) return;
    const note = part("div", "memsweep-stale", "From an earlier run: the input did not change, so the node did not run.");
    this.element.querySelector(".memsweep-head")?.after(note);
  }
  /** The height the content would like at a width. Measured aside: the node may not be on screen. */
  heightAt(width) {
    const copy = this.element.cloneNode(true);
    copy.style.cssText = `position:absolute;visibility:hidden;height:auto;width:${width}px`;
    document.body.append(copy);
    const height = copy.offsetHeight;
    copy.remove();
    return Math.min(height, MOST_HEIGHT);
  }
  /** Whether the content is taller than the space it has. */
  scrolls() {
    return this.element.scrollHeight > this.element.clientHeight;
  }
};
function starts(line2) {
  return line2.kind === "step" || line2.kind === "kept" || line2.kind === "note";
}
function lineElement(line2) {
  const row = part("div", `memsweep-line memsweep-${line2.kind}`);
  row.title = line2.detail === "" ? line2.label : `${line2.label}: ${line2.detail}`;
  row.append(part("div", "memsweep-what", line2.kind === "kept" ? `Kept: ${line2.label}` : line2.label));
  const value = part("div", "memsweep-value", line2.value);
  const detail = part("div", "memsweep-detail", line2.detail);
  if (line2.kind === "total") row.append(detail, value);
  else if (line2.kind !== "note") row.append(value);
  if (line2.detail !== "" && (line2.kind === "problem" || line2.kind === "kept")) row.append(detail);
  return row;
}
function part(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
function ensureStyle() {
  if (document.getElementById(STYLE_ID) !== null) return;
  const style = document.createElement("style");
  style.id = STYLE_ID;
  style.textContent = STYLE;
  document.head.append(style);
}

// src/comfy.ts
var WIDGET = "memsweep_report";
var LEAST_HEIGHT = 44;
var LEAST_WIDTH = 360;
var MARGIN = 20;
function connect({ name, keys, read }) {
  const shown = /* @__PURE__ */ new WeakMap();
  const latest = /* @__PURE__ */ new WeakMap();
  let cached = /* @__PURE__ */ new WeakSet();
  const show = async (node, output) => {
    latest.set(node, output);
    const report = await read(output);
    if (report === null || latest.get(node) !== output) return;
    const entry = shown.get(node) ?? addView(node);
    shown.set(node, entry);
    entry.view.show(report);
    if (cached.has(node)) entry.view.markStale();
    makeRoom(node, entry);
  };
  app.registerExtension({
    name,
    nodeCreated(node) {
      if (!keys.has(node.comfyClass ?? "")) return;
      const executed = node.onExecuted;
      node.onExecuted = function(output) {
        executed?.call(this, output);
        void show(this, output);
      };
      const serialized = node.onSerialize;
      node.onSerialize = function(saved) {
        serialized?.call(this, saved);
        const entry = shown.get(this);
        if (entry !== void 0) savePlainSize(saved, entry);
      };
    },
    // A workflow that was left and came back, or that was opened from the history.
    onNodeOutputsUpdated(outputs) {
      for (const [id, output] of Object.entries(outputs)) {
        const node = findNode(id);
        if (node && keys.has(node.comfyClass ?? "")) void show(node, output);
      }
    }
  });
  api.addEventListener("execution_start", () => {
    cached = /* @__PURE__ */ new WeakSet();
  });
  api.addEventListener("execution_cached", (event) => {
    const nodes = event.detail?.nodes;
    for (const id of Array.isArray(nodes) ? nodes : []) {
      const node = findNode(String(id));
      if (node === null) continue;
      cached.add(node);
      const entry = shown.get(node);
      if (entry === void 0) continue;
      entry.view.markStale();
      makeRoom(node, entry);
    }
  });
}
function addView(node) {
  const view = new ReportView();
  const widget = node.addDOMWidget(WIDGET, WIDGET, view.element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true,
    getMinHeight: () => LEAST_HEIGHT,
    getValue: () => void 0,
    setValue: () => void 0
  });
  widget.serialize = false;
  view.element.addEventListener("wheel", (event) => {
    if (!view.scrolls() || event.ctrlKey) app.canvas?.processMouseWheel?.(event);
  });
  const size2 = [node.size[0], node.size[1]];
  return { view, plain: size2, grown: size2 };
}
function makeRoom(node, entry) {
  const [width, height] = node.size;
  if (!sameSize(node.size, entry.grown)) entry.plain = [width, height];
  const wantedWidth = Math.max(entry.plain[0], LEAST_WIDTH);
  const bare = node.computeSize()[1] - LEAST_HEIGHT;
  const wantedHeight = bare + entry.view.heightAt(wantedWidth - MARGIN) + MARGIN;
  node.setSize([wantedWidth, Math.max(entry.plain[1], wantedHeight)]);
  const settle = () => {
    entry.grown = [node.size[0], node.size[1]];
  };
  settle();
  app.canvas?.setDirty?.(true, true);
  requestAnimationFrame(() => requestAnimationFrame(settle));
}
function savePlainSize(saved, entry) {
  if (sameSize(saved.size, entry.grown)) saved.size = [...entry.plain];
}
function sameSize(size2, other) {
  const given = size2;
  return given?.[0] === other[0] && given[1] === other[1];
}
function findNode(id) {
  const path = id.split(":");
  const last = path.pop() ?? "";
  const root = app.rootGraph ?? app.graph;
  let graph = root;
  for (const step2 of path) {
    graph = root?.subgraphs?.get(step2) ?? graph?.getNodeById(step2)?.subgraph;
  }
  return graph?.getNodeById(last) ?? null;
}

// src/fields.ts
function record(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}
function list(value) {
  return Array.isArray(value) ? value : [];
}
function string(value) {
  return typeof value === "string" ? value : "";
}
function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

// src/older.ts
function olderHeadline(report) {
  const freed = record(report["freed"]);
  const devices = list(freed["devices"]).map(record).map((each) => place(string(each["id"]), "held", each["ours"]));
  const failed = list(report["rows"]).filter((row) => record(record(row)["outcome"])["kind"] === "failed");
  return { freed: [process(freed), ...devices].filter(known), failed_steps: failed.length };
}
function olderGave(row) {
  const freed = record(row["measured"]);
  const devices = list(freed["devices"]).map(record).map(outermost).filter((each) => each["bytes"] !== 0);
  const ram = process(freed);
  const moved = [ram, ...devices].filter((each) => known(each) && each["bytes"] !== 0);
  return moved.length > 0 ? moved : [ram].filter(known);
}
function process(freed) {
  for (const [field, measure] of [["process_charged", "charged"], ["process_anonymous", "private"]]) {
    if (number(freed[field]) !== null) return place("process", measure, freed[field]);
  }
  return place("process", "resident", freed["process_resident"]);
}
function outermost(device) {
  const id = string(device["id"]);
  for (const [field, measure] of [["ours", "held"], ["torch_reserved", "held"], ["torch_allocated", "tensors"]]) {
    const bytes = number(device[field]) ?? 0;
    if (bytes !== 0) return place(id, measure, bytes);
  }
  return place(id, "held", 0);
}
function place(name, measure, bytes) {
  return { place: name, measure, bytes };
}
function known(each) {
  return number(each["bytes"]) !== null;
}
function olderLines(text) {
  const lines = text.split("\n").filter((each) => each.trim() !== "");
  return lines.map((each) => {
    const cut = each.lastIndexOf(": ");
    if (cut < 0) return { part: false, name: each.trim(), value: "" };
    return { part: each.startsWith(" "), name: each.slice(0, cut).trim(), value: each.slice(cut + 2) };
  });
}

// src/model.ts
var SCHEMA = 1;
var NODE_KEYS = /* @__PURE__ */ new Set([
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
  "MemSweepReport"
]);
var MOST_KEPT = 3;
var UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];
var ARROW = "\u2192";
function formatBytes(bytes) {
  const sign = bytes < 0 ? "-" : "";
  let value = Math.abs(bytes);
  if (value < 1024) return `${sign}${value} B`;
  value /= 1024;
  let unit = 0;
  while (value >= 1023.95 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit += 1;
  }
  return `${sign}${value.toFixed(1)} ${UNITS[unit]}`;
}
function nodeReport(output) {
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
      ...list(report["notes"]).map((note) => line("note", string(note)))
    ].filter(({ label }) => label !== ""),
    text
  };
}
function parsed(text) {
  try {
    return record(JSON.parse(string(text)));
  } catch {
    return {};
  }
}
function withoutReport(problem, text) {
  const what = string(problem["what"]);
  if (what !== "") return { headline: what, badge: "", lines: [line("problem", string(problem["why"]))], text };
  const [summary = "", ...more] = text.split("\n");
  if (summary === "") return null;
  return { headline: summary, badge: "", lines: more.filter((each) => each.trim() !== "").map((each) => line("note", each)), text };
}
function headline(report) {
  if (report["dry_run"] === true) return "Dry run: nothing was released";
  const told = "headline" in report ? record(report["headline"]) : olderHeadline(report);
  const freed = list(told["freed"]).map(record);
  const parts = freed.map(gave).filter((part2) => part2 !== "");
  if (!freed.some(isProcess)) parts.unshift("RAM not measured");
  const parked2 = number(told["parked"]) ?? 0;
  if (parked2 > 0) parts.push(`${formatBytes(parked2)} moved to disk`);
  if (report["cancelled"] === true) parts.unshift("Cancelled");
  const failed = number(told["failed_steps"]) ?? 0;
  if (failed > 0) parts.push(failed === 1 ? "1 step failed" : `${failed} steps failed`);
  return parts.join(", ");
}
function gave(each) {
  const bytes = number(each["bytes"]);
  if (bytes === null) return "";
  const place2 = string(each["place"]);
  const names = {
    charged: "Memory",
    private: "RAM",
    resident: "Resident RAM",
    tensors: `${place2} tensors`,
    all_programs: `${place2}, all programs:`
  };
  return `${names[string(each["measure"])] ?? place2} ${change(bytes)}`;
}
function isProcess(each) {
  return each["place"] === "process";
}
function levels(reading) {
  const process2 = record(reading["process"]);
  const ram = number(process2["resident"]) ?? number(process2["anonymous"]);
  const parts = [ram === null ? "RAM unknown" : `RAM ${formatBytes(ram)}`];
  for (const each of list(reading["devices"])) {
    const device = record(each);
    const bytes = number(device["used"]) ?? number(device["torch_reserved"]);
    if (bytes !== null) parts.push(`${string(device["id"])} ${formatBytes(bytes)}`);
  }
  return parts.join(", ");
}
function sheet(report, text) {
  if (!("lines" in report)) return olderLines(text).map(({ part: part2, name, value }) => line(part2 ? "part" : "total", name, value));
  const lines = list(report["lines"]).map((each) => {
    const { name, bytes, part: part2 } = record(each);
    return line(part2 === true ? "part" : "total", string(name), size(bytes));
  });
  const models = list(report["models"]).map((each) => {
    const { name, device, bytes } = record(each);
    return line("total", `model ${string(name)} on ${string(device)}`, `${size(bytes)} loaded`);
  });
  return [...lines, ...models].filter(({ label }) => label !== "");
}
function badge(report) {
  const level = string(report["level"]);
  const requested = string(report["requested_level"]);
  const shown = requested !== "" && requested !== level ? `${requested} ${ARROW} ${level}` : level;
  return report["dry_run"] === true ? `${shown} (dry run)` : shown;
}
function totals(report) {
  const freed = record(report["freed"]);
  const before = record(report["before"]);
  const after = record(report["after"]);
  const was = record(before["process"]);
  const now = record(after["process"]);
  const lines = [
    total("Private RAM", was["anonymous"], now["anonymous"], freed["process_anonymous"]),
    total("Commit charge", was["commit"], now["commit"], freed["process_charged"]),
    total("Footprint", was["footprint"], now["footprint"], freed["process_charged"])
  ];
  if (number(freed["process_charged"]) === null) {
    lines.push(total("Resident RAM", was["resident"], now["resident"], freed["process_resident"]));
  }
  for (const each of list(after["devices"])) {
    const device = record(each);
    const id = string(device["id"]);
    const then = byId(before["devices"], id);
    const gave2 = byId(freed["devices"], id);
    lines.push(
      total(`${id}, all programs`, then["used"], device["used"], gave2["used"]),
      total(`${id} torch`, then["torch_reserved"], device["torch_reserved"], gave2["torch_reserved"])
    );
  }
  return lines.filter((each) => each !== null);
}
function total(label, before, after, freed) {
  const was = number(before);
  const now = number(after);
  if (was === null || now === null) return null;
  return line("total", label, change(number(freed)), `${formatBytes(was)} ${ARROW} ${formatBytes(now)}`);
}
function steps(report) {
  const lines = [];
  const idle = [];
  for (const each of list(report["rows"])) {
    const row = record(each);
    const outcome = record(row["outcome"]);
    const what = step(row);
    const why = string(outcome["reason"]) || string(outcome["error"]);
    switch (outcome["kind"]) {
      case "done":
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
        lines.push(...list(outcome["owners"]).map((each2) => destroyed(record(each2))), ...stayed(outcome));
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
function size(bytes) {
  const known2 = number(bytes);
  return known2 === null ? "unknown" : formatBytes(known2);
}
function parked(outcome) {
  const lines = [
    ["on disk before, not written again", number(outcome["already"])],
    ["of all that is parked, in memory again", number(outcome["in_memory"])]
  ].filter((each) => typeof each[1] === "number" && each[1] > 0);
  const shown = lines.map(([label, bytes]) => line("part", label, formatBytes(bytes)));
  const why = string(outcome["stopped"]);
  return why === "" ? shown : [...shown, line("problem", "Parking ended early", "", why)];
}
function destroyed(owner) {
  const tensors = number(owner["tensors"]) ?? 0;
  const count = tensors === 1 ? "1 tensor" : `${tensors} tensors`;
  return line("part", `${count} of ${string(owner["name"])}`, size(owner["bytes"]));
}
function stayed(outcome) {
  return list(outcome["refused"]).map((each) => {
    const row = record(each);
    return line("kept", string(row["reason"]), size(row["bytes"]), "stayed in memory");
  });
}
function goal(report) {
  if (report["goal"] === null || report["goal"] === void 0) return [];
  const met = report["goal_met"];
  const label = met === true ? "The goal was met." : met === false ? "The goal was not met." : "Nobody can tell whether the goal was met.";
  return [line("note", label)];
}
var VERBS = {
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
  system_wide: "Release"
};
function step(row) {
  const verb = VERBS[string(record(row["action"])["kind"])];
  const what = string(row["what"]);
  return verb === void 0 ? what : `${verb} ${what}`;
}
function kept(report) {
  const rows = list(report["kept"]).map(record).filter((row) => row["bytes"] !== 0).sort((one, other) => (number(other["bytes"]) ?? -1) - (number(one["bytes"]) ?? -1));
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
function notSeen(outcome) {
  const claimed = number(outcome["claimed"]);
  return line("problem", "its claim was not seen", claimed === null ? "" : `${formatBytes(claimed)} claimed`);
}
function measured(row) {
  if (row["verdict"] === "outside_process") {
    const claimed = number(record(row["outcome"])["claimed"]);
    return claimed === null ? "done" : `${formatBytes(claimed)} claimed`;
  }
  const places = "gave" in row ? list(row["gave"]).map(record) : olderGave(row);
  const parts = places.map((each) => isProcess(each) ? change(number(each["bytes"])) : gave(each));
  return parts.filter((part2) => part2 !== "").join(", ") || "not measured";
}
function estimated(row) {
  const bytes = number(row["estimated"]);
  return bytes === null ? "unknown" : `about ${formatBytes(bytes)}`;
}
function change(bytes) {
  if (bytes === null) return "not measured";
  if (bytes === 0) return "unchanged";
  return bytes > 0 ? `${formatBytes(bytes)} freed` : `${formatBytes(-bytes)} more`;
}
function line(kind, label, value = "", detail = "") {
  return { kind, label, value, detail };
}
function byId(devices, id) {
  return list(devices).map(record).find((device) => device["id"] === id) ?? {};
}

// src/packed.ts
async function unpacked(output) {
  if (typeof output !== "object" || output === null || !("memsweep" in output)) return output;
  const { memsweep } = output;
  if (!Array.isArray(memsweep)) return output;
  const messages = memsweep.map(async (message) => {
    if (typeof message !== "object" || message === null || !("report" in message)) return message;
    return { ...message, report: await inflated(message.report) };
  });
  return { ...output, memsweep: await Promise.all(messages) };
}
async function inflated(packed) {
  if (typeof packed !== "string") return null;
  try {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return await new Response(stream).text();
  } catch {
    return null;
  }
}

// src/main.ts
connect({
  name: "MemSweep.Reports",
  keys: NODE_KEYS,
  read: async (output) => nodeReport(await unpacked(output))
});
