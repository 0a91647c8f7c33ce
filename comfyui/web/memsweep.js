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
.memsweep-problem .memsweep-detail, .memsweep-stayed .memsweep-detail, .memsweep-kept .memsweep-detail { flex-basis: 100%; padding-left: 10px; overflow-wrap: anywhere; }
.memsweep-part { padding-left: 10px; color: var(--descrip-text, #999); }
.memsweep-problem .memsweep-value { color: var(--error-text, #ff6b6b); }
.memsweep-kept .memsweep-value { color: var(--descrip-text, #999); }
.memsweep-note { color: var(--descrip-text, #999); }
.memsweep-note .memsweep-what, .memsweep-stayed .memsweep-what,
.memsweep-step .memsweep-what, .memsweep-kept .memsweep-what { white-space: normal; overflow-wrap: anywhere; }
`;
var ReportView = class {
  element = document.createElement("div");
  constructor() {
    this.element.className = "memsweep";
  }
  /** Shows a report in place of the last one. */
  show(report) {
    ensureStyle();
    const head = part("div", "memsweep-head");
    head.append(part("div", "memsweep-headline", report.headline));
    if (report.badge !== "") head.append(part("div", "memsweep-badge", report.badge));
    const lines = part("div", "memsweep-lines");
    let kind = report.lines[0]?.kind;
    for (const each2 of report.lines) {
      const row = lineElement(each2);
      if (each2.kind !== kind && starts(each2)) row.classList.add("memsweep-first");
      kind = each2.kind;
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
  /** The height the content needs at a width. Measured on a copy: the node may not be on screen. */
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
var BELOW = ["problem", "stayed", "kept"];
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
  if (line2.detail !== "" && BELOW.includes(line2.kind)) row.append(detail);
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
var WIDGET_VALUES = ["widgets_values", "widgets_values_named"];
var LEAST_HEIGHT = 44;
var LEAST_WIDTH = 360;
var MARGIN = 20;
function connect({ name: name2, keys, settings, read, isNew }) {
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
    if (cached.has(node) && !isNew(output)) entry.view.markStale();
    makeRoom(node, entry);
  };
  app.registerExtension({
    name: name2,
    settings,
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
        if (entry === void 0) return;
        savePlainSize(saved, entry);
        saveNoWidget(saved, entry);
      };
    },
    // A workflow whose tab is opened again, or one that is opened from the history.
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
  const before = node.serialize();
  const absent = WIDGET_VALUES.filter((key) => !(key in before));
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
  return { view, plain: size2, grown: size2, absent };
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
function saveNoWidget(saved, entry) {
  for (const key of entry.absent) if (isEmpty(saved[key])) delete saved[key];
}
function isEmpty(value) {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}
function sameSize(size2, other) {
  const given2 = size2;
  return given2?.[0] === other[0] && given2[1] === other[1];
}
function findNode(id) {
  const path = id.split(":");
  const last = path.pop() ?? "";
  const root = app.rootGraph ?? app.graph;
  let graph = root;
  for (const step of path) {
    graph = root?.subgraphs?.get(step) ?? graph?.getNodeById(step)?.subgraph;
  }
  return graph?.getNodeById(last) ?? null;
}

// src/keys.ts
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

// src/report/amounts.ts
var UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];
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
function size(bytes) {
  return bytes === null ? "unknown" : formatBytes(bytes);
}
function change(bytes) {
  if (bytes === null) return "not measured";
  if (bytes === 0) return "unchanged";
  return bytes > 0 ? `${formatBytes(bytes)} freed` : `${formatBytes(-bytes)} more`;
}

// src/report/fields.ts
function promised(value) {
  return value;
}
function fields(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}
function list(value) {
  return Array.isArray(value) ? value : [];
}
function string(value) {
  const given2 = value;
  return typeof given2 === "string" ? given2 : "";
}
function number(value) {
  const given2 = value;
  return typeof given2 === "number" && Number.isFinite(given2) ? given2 : null;
}
function is(value, wanted) {
  return value === wanted;
}
function given(value) {
  return (value ?? null) !== null;
}

// src/report/lines.ts
var ARROW = "\u2192";
function line(kind, label, value = "", detail = "") {
  return { kind, label, value, detail };
}

// src/report/older.ts
function upgraded(value) {
  if (!isObject(value) || value["schema"] !== 1) return value;
  const rows = each(value["rows"], (row) => ({
    ...row,
    measured: withDevices(row["measured"]),
    outcome: upgradedOutcome(row["outcome"])
  }));
  return {
    ...value,
    schema: 2,
    ...value["reading"] === void 0 ? {} : { reading: withDevices(value["reading"]) },
    before: withDevices(value["before"]),
    after: withDevices(value["after"]),
    freed: withDevices(value["freed"]),
    rows,
    notes: texts(value["notes"]).map((text) => ({ reason: text }))
  };
}
function upgradedOutcome(value) {
  if (!isObject(value) || typeof value["stopped"] !== "string") return value;
  return { ...value, stopped: { reason: value["stopped"] } };
}
function withDevices(value) {
  if (!isObject(value)) return value;
  return {
    ...value,
    devices: each(value["devices"], (device) => ({
      ...device,
      driver: { used: device["used"], process: device["process"], others: device["others"] },
      torch: { allocated: device["torch_allocated"], reserved: device["torch_reserved"] },
      comfyui: { paged: device["comfy_dynamic"] }
    }))
  };
}
function each(value, change2) {
  return Array.isArray(value) ? value.map((one) => isObject(one) ? change2(one) : one) : value;
}
function texts(value) {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
function olderHeadline(report) {
  const freed = fields(report.freed);
  const devices = list(freed.devices).flatMap((each2) => {
    const { id, ours } = fields(each2);
    return place(string(id), "held", ours);
  });
  const failed = list(report.rows).filter((row) => is(fields(fields(row).outcome).kind, "failed"));
  return { freed: [...process(freed), ...devices], parked: 0, failed: failed.length };
}
function olderGave(row) {
  const freed = fields(row.measured);
  const ram = process(freed);
  const moved = [...ram, ...list(freed.devices).flatMap(outermost)].filter(({ bytes }) => bytes !== 0);
  return moved.length > 0 ? moved : ram;
}
function process(freed) {
  if (number(freed.process_charged) !== null) return place("process", "charged", freed.process_charged);
  if (number(freed.process_anonymous) !== null) return place("process", "private", freed.process_anonymous);
  return place("process", "resident", freed.process_resident);
}
function outermost(value) {
  const { id, ours, torch } = fields(value);
  const numbers = [
    ["held", ours],
    ["held", fields(torch).reserved],
    ["tensors", fields(torch).allocated]
  ];
  const [measure, bytes] = numbers.find(([, each2]) => (number(each2) ?? 0) !== 0) ?? ["held", void 0];
  return place(string(id), measure, bytes);
}
function place(name2, measure, value) {
  const bytes = number(value);
  return bytes === null ? [] : [{ place: name2, measure, bytes }];
}
function olderLines(text) {
  const lines = text.split("\n").filter((each2) => each2.trim() !== "");
  return lines.map((each2) => {
    const cut = each2.lastIndexOf(": ");
    if (cut < 0) return line("total", each2.trim());
    return line(each2.startsWith(" ") ? "part" : "total", each2.slice(0, cut).trim(), each2.slice(cut + 2));
  });
}

// src/report/places.ts
var PROCESS = "process";
function places(values) {
  return list(values).flatMap((each2) => {
    const { place: place2, measure, bytes } = fields(each2);
    const known = number(bytes);
    return known === null ? [] : [{ place: string(place2), measure: string(measure), bytes: known }];
  });
}
function isProcess({ place: place2 }) {
  return place2 === PROCESS;
}
function gaveText({ place: place2, measure, bytes }) {
  return `${placeName(place2, measure)} ${change(bytes)}`;
}
function placeName(place2, measure) {
  switch (measure) {
    case "charged":
      return "Memory";
    case "private":
      return "RAM";
    case "resident":
      return "Resident RAM";
    case "tensors":
      return `${place2} tensors`;
    case "all_programs":
      return `${place2}, all programs:`;
    default:
      return place2;
  }
}

// src/report/headline.ts
function headline(report) {
  if (is(report.dry_run, true)) return "Dry run: nothing was released";
  const { freed, parked: parked2, failed } = "headline" in report ? told(report.headline) : olderHeadline(report);
  const parts = freed.map(gaveText);
  if (!freed.some(isProcess)) parts.unshift("RAM not measured");
  if (parked2 > 0) parts.push(`${formatBytes(parked2)} moved to disk`);
  if (is(report.cancelled, true)) parts.unshift("Cancelled");
  if (failed > 0) parts.push(failed === 1 ? "1 step failed" : `${failed} steps failed`);
  return parts.join(", ");
}
function badge(report) {
  const level = string(report.level);
  const requested = string(report.requested_level);
  const shown = requested !== "" && requested !== level ? `${requested} ${ARROW} ${level}` : level;
  return is(report.dry_run, true) ? `${shown} (dry run)` : shown;
}
function told(value) {
  const { freed, parked: parked2, failed_steps } = fields(value);
  return { freed: places(freed), parked: number(parked2) ?? 0, failed: number(failed_steps) ?? 0 };
}

// src/report/kept.ts
var MOST_KEPT = 3;
function kept(report) {
  const rows = list(report.kept).map((each2) => fields(each2)).filter((row) => !is(row.bytes, 0)).sort((one, other) => (number(other.bytes) ?? -1) - (number(one.bytes) ?? -1));
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

// src/report/rest.ts
function rest(rows) {
  return list(rows).flatMap((each2) => {
    const { reason, bytes } = fields(each2);
    const size2 = number(bytes);
    return string(reason) === "" ? [] : [line("stayed", `Held: ${string(reason)}`, size2 === null ? "" : formatBytes(size2))];
  });
}

// src/report/reading.ts
function levels(value) {
  const reading = fields(value);
  const process2 = fields(reading.process);
  const ram = number(process2.resident) ?? number(process2.anonymous);
  const parts = [ram === null ? "RAM unknown" : `RAM ${formatBytes(ram)}`];
  for (const each2 of list(reading.devices)) {
    const device = fields(each2);
    const bytes = number(fields(device.driver).used) ?? number(fields(device.torch).reserved);
    if (bytes !== null) parts.push(`${string(device.id)} ${formatBytes(bytes)}`);
  }
  return parts.join(", ");
}
function balance(report, text) {
  if (!("lines" in report)) return olderLines(text);
  const lines = list(report.lines).map((each2) => {
    const { name: name2, bytes, part: part2 } = fields(each2);
    return line(is(part2, true) ? "part" : "total", string(name2), size(number(bytes)));
  });
  const models = list(report.models).map((each2) => {
    const { what, name: name2, device, bytes, pinned } = fields(each2);
    const shown = string(what) || `model ${string(name2)} on ${string(device)}`;
    const ram = number(pinned) ? `, ${size(number(pinned))} of RAM pinned for it` : "";
    return line("total", shown, `${size(number(bytes))} loaded${ram}`);
  });
  const notes = list(report.notes).map((note) => line("note", string(fields(note).reason)));
  return [...lines, ...models, ...rest(report.rest), ...notes];
}

// src/report/steps.ts
var VERBS = {
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
  system_wide: "Release"
};
function steps(report) {
  const lines = [];
  const idle = [];
  for (const each2 of list(report.rows)) {
    const row = fields(each2);
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
function ran(row) {
  const outcome = fields(row.outcome);
  const what = name(row);
  switch (string(outcome.kind)) {
    case "done":
      if (is(fields(row.action).kind, "synchronize")) return [];
      return [
        line("step", what, measured(row), string(outcome.detail) || string(row.reason)),
        ...notSeen(row, number(outcome.claimed))
      ];
    case "parked":
      return [
        line("step", what, measured(row), `${size(number(outcome.bytes))} moved to ${string(outcome.folder)}`),
        ...notSeen(row, number(outcome.bytes)),
        ...parked(outcome),
        ...stayed(outcome)
      ];
    case "destroyed":
      return [
        line("step", what, measured(row), string(row.reason)),
        ...notSeen(row, null),
        ...list(outcome.owners).map(destroyed),
        ...stayed(outcome)
      ];
    case "failed":
      return [line("problem", what, "failed", string(outcome.error))];
    case "cancelled":
      return [line("problem", what, "cancelled")];
    default:
      return null;
  }
}
function notRun(row) {
  const why = string(fields(row.outcome).reason);
  return why === "" ? name(row) : `${name(row)}: ${why}`;
}
function name(row) {
  const kind = string(fields(row.action).kind);
  const what = string(row.what);
  return isKnown(kind) ? `${VERBS[kind]} ${what}` : what;
}
function isKnown(kind) {
  return Object.hasOwn(VERBS, kind);
}
function measured(row) {
  if (is(row.verdict, "outside_process")) {
    const claimed = number(fields(row.outcome).claimed);
    return claimed === null ? "done" : `${formatBytes(claimed)} claimed`;
  }
  const gave = "gave" in row ? places(row.gave) : olderGave(row);
  const parts = gave.map((each2) => isProcess(each2) ? change(each2.bytes) : gaveText(each2));
  return parts.join(", ") || "not measured";
}
function estimated(row) {
  const bytes = number(row.estimated);
  return bytes === null ? "unknown" : `about ${formatBytes(bytes)}`;
}
function notSeen(row, bytes) {
  if (!is(row.verdict, "claim_not_seen")) return [];
  return [line("problem", "the readings do not show it", bytes === null ? "" : `${formatBytes(bytes)} claimed`)];
}
function parked(outcome) {
  const parts = [
    ["already on disk, not written again", number(outcome.already)],
    ["back in memory, of everything parked", number(outcome.in_memory)]
  ];
  const lines = parts.flatMap(([label, bytes]) => (bytes ?? 0) > 0 ? [line("part", label, size(bytes))] : []);
  const why = string(fields(outcome.stopped).reason);
  return why === "" ? lines : [...lines, line("problem", "Parking ended early", "", why)];
}
function destroyed(value) {
  const owner = fields(value);
  const tensors = number(owner.tensors) ?? 0;
  const count = tensors === 1 ? "1 tensor" : `${tensors} tensors`;
  return line("part", `${count} of ${string(owner.name)}`, size(number(owner.bytes)));
}
function stayed(outcome) {
  return list(outcome.refused).map((each2) => {
    const { reason, bytes } = fields(each2);
    return line("kept", string(reason), size(number(bytes)), "stayed in memory");
  });
}

// src/report/totals.ts
function totals(report) {
  const freed = fields(report.freed);
  const before = fields(report.before);
  const after = fields(report.after);
  const was = fields(before.process);
  const now = fields(after.process);
  const total = (number(report.turns) ?? 1) > 1 ? sum : difference;
  const lines = [
    total("Private RAM", was.anonymous, now.anonymous, freed.process_anonymous),
    total("Commit charge", was.commit, now.commit, freed.process_charged),
    total("Footprint", was.footprint, now.footprint, freed.process_charged)
  ];
  if (number(freed.process_charged) === null) {
    lines.push(total("Resident RAM", was.resident, now.resident, freed.process_resident));
  }
  for (const each2 of list(after.devices)) {
    const device = fields(each2);
    const id = string(device.id);
    const then = byId(before.devices, id);
    const gave = byId(freed.devices, id);
    lines.push(
      total(
        `${id}, all programs`,
        fields(then.driver).used,
        fields(device.driver).used,
        fields(gave.driver).used
      ),
      total(
        `${id} torch`,
        fields(then.torch).reserved,
        fields(device.torch).reserved,
        fields(gave.torch).reserved
      )
    );
  }
  return lines.filter((each2) => each2 !== null);
}
function difference(label, before, after, freed) {
  const was = number(before);
  const now = number(after);
  if (was === null || now === null) return null;
  return line("total", label, change(number(freed)), `${formatBytes(was)} ${ARROW} ${formatBytes(now)}`);
}
function sum(label, _before, after, freed) {
  const now = number(after);
  return now === null ? null : line("total", label, change(number(freed)), `${formatBytes(now)} now`);
}
function byId(devices, id) {
  const found = list(devices).find((each2) => {
    const device = each2;
    return is(fields(device).id, id);
  });
  return fields(found);
}

// src/report/read.ts
var SCHEMA = 2;
function nodeReport(output) {
  const message = fields(list(fields(promised(output)).memsweep)[0]);
  const text = string(message.text);
  const json = upgraded(parsed(string(message.report)));
  const report = fields(promised(json));
  if (!is(report.schema, SCHEMA)) return withoutReport(fields(message.problem), text);
  const memory = fields(promised(json));
  if ("reading" in memory) {
    return { headline: levels(memory.reading), badge: "reading", lines: named(balance(memory, text)), text };
  }
  return { headline: headline(report), badge: badge(report), lines: named(sweepLines(report)), text };
}
function ranAtEnd(output) {
  return is(fields(list(fields(promised(output)).memsweep)[0]).at_end, true);
}
function sweepLines(report) {
  return [
    ...stayed2(report),
    ...totals(report),
    ...turns(report),
    ...steps(report),
    ...goal(report),
    ...kept(report),
    ...rest(report.rest),
    ...list(report.notes).map((note) => line("note", string(fields(note).reason)))
  ];
}
function stayed2(report) {
  const { what, bytes, reason, advice } = fields(report.stayed);
  if (string(what) === "") return [];
  return [line("stayed", `Not freed: ${string(what)}`, size(number(bytes)), `${string(reason)}; ${string(advice)}`)];
}
function turns(report) {
  const count = number(report.turns) ?? 1;
  return count > 1 ? [line("note", `Given back in ${count} turns. What follows is from the last one.`)] : [];
}
function named(lines) {
  return lines.filter(({ label }) => label !== "");
}
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
function withoutReport(problem, text) {
  const what = string(problem.what);
  if (what !== "") return { headline: what, badge: "", lines: [line("problem", string(problem.why))], text };
  const [summary = "", ...more] = text.split("\n");
  if (summary === "") return null;
  const lines = more.filter((each2) => each2.trim() !== "").map((each2) => line("note", each2));
  return { headline: summary, badge: "", lines, text };
}
function goal(report) {
  if (!given(report.goal)) return [];
  if (is(report.goal_met, true)) return [line("note", "The goal was met.")];
  if (is(report.goal_met, false)) return [line("note", "The goal was not met.")];
  return [line("note", "It is unknown whether the goal was met.")];
}

// src/settings.ts
var SETTINGS = [
  {
    id: "MemSweep.AfterFailure",
    category: ["MemSweep", "Sweeps", "AfterFailure"],
    name: "Sweep after a prompt that failed or was cancelled",
    tooltip: "How far: off, or a level of Free Memory (Any). It runs once ComfyUI is done with the prompt, and its report is in the log and on a MemSweep node of the workflow.",
    type: "combo",
    options: ["off", "trim", "collect", "unload", "evict", "park"],
    defaultValue: "off"
  }
];

// src/main.ts
connect({
  name: "MemSweep.Reports",
  keys: NODE_KEYS,
  settings: SETTINGS,
  isNew: ranAtEnd,
  read: async (output) => nodeReport(await unpacked(output))
});
