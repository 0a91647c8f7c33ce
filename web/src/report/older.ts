// Reports that 0.1 left in the history of a ComfyUI: they lack the fields that say which number
// speaks for a place. They are shown as 0.1 showed them, and nothing new comes here.

import type { DeviceFreed, Freed, Gave, Measure, Report, Row } from "../shapes/report.ts";
import { type Fields, fields, is, list, number, type Promised, string } from "./fields.ts";
import { line, type Line } from "./lines.ts";

type Json = Record<string, unknown>;

/** JSON of schema 1, which 0.1 wrote, as the current schema has it. Anything else stays as it is. */
export function upgraded(value: unknown): unknown {
  if (!isObject(value) || value["schema"] !== 1) return value;
  const rows = each(value["rows"], (row) => ({
    ...row,
    measured: withDevices(row["measured"]),
    outcome: upgradedOutcome(row["outcome"]),
  }));
  return {
    ...value,
    schema: 2,
    ...(value["reading"] === undefined ? {} : { reading: withDevices(value["reading"]) }),
    before: withDevices(value["before"]),
    after: withDevices(value["after"]),
    freed: withDevices(value["freed"]),
    rows,
    notes: texts(value["notes"]).map((text) => ({ reason: text })),
  };
}

function upgradedOutcome(value: unknown): unknown {
  if (!isObject(value) || typeof value["stopped"] !== "string") return value;
  return { ...value, stopped: { reason: value["stopped"] } };
}

/** Numbers of a device by who says them, where they stood side by side. */
function withDevices(value: unknown): unknown {
  if (!isObject(value)) return value;
  return {
    ...value,
    devices: each(value["devices"], (device) => ({
      ...device,
      driver: { used: device["used"], process: device["process"], others: device["others"] },
      torch: { allocated: device["torch_allocated"], reserved: device["torch_reserved"] },
      comfyui: { paged: device["comfy_dynamic"] },
    })),
  };
}

function each(value: unknown, change: (one: Json) => Json): unknown {
  return Array.isArray(value) ? value.map((one: unknown) => (isObject(one) ? change(one) : one)) : value;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one: unknown) => typeof one === "string") : [];
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The headline of a report without one. 0.1 did not say what was parked. */
export function olderHeadline(report: Fields<Report>): { freed: Gave[]; parked: number; failed: number } {
  const freed = fields(report.freed);
  const devices = list(freed.devices).flatMap((each) => {
    const { id, ours } = fields(each);
    return place(string(id), "held", ours);
  });
  const failed = list(report.rows).filter((row) => is(fields(fields(row).outcome).kind, "failed"));
  return { freed: [...process(freed), ...devices], parked: 0, failed: failed.length };
}

/** What a step without that field gave back: every place that moved, else one that did not. */
export function olderGave(row: Fields<Row>): Gave[] {
  const freed = fields(row.measured);
  const ram = process(freed);
  const moved = [...ram, ...list(freed.devices).flatMap(outermost)].filter(({ bytes }) => bytes !== 0);
  return moved.length > 0 ? moved : ram;
}

function process(freed: Fields<Freed>): Gave[] {
  if (number(freed.process_charged) !== null) return place("process", "charged", freed.process_charged);
  if (number(freed.process_anonymous) !== null) return place("process", "private", freed.process_anonymous);
  return place("process", "resident", freed.process_resident);
}

/** The outermost number of ours that moved: what we gave back, else torch's cache, else its tensors. */
function outermost(value: Promised<DeviceFreed>): Gave[] {
  const { id, ours, torch } = fields(value);
  const numbers: [Measure, Promised<number | null>][] = [
    ["held", ours],
    ["held", fields(torch).reserved],
    ["tensors", fields(torch).allocated],
  ];
  const [measure, bytes] = numbers.find(([, each]) => (number(each) ?? 0) !== 0) ?? ["held", undefined];
  return place(string(id), measure, bytes);
}

/** The place, if its number is known. */
function place(name: string, measure: Measure, value: Promised<number | null>): Gave[] {
  const bytes = number(value);
  return bytes === null ? [] : [{ place: name, measure, bytes }];
}

/** A reading as text, line by line: `name: amount`, the parts of a total indented. */
export function olderLines(text: string): Line[] {
  const lines = text.split("\n").filter((each) => each.trim() !== "");
  return lines.map((each) => {
    const cut = each.lastIndexOf(": ");
    if (cut < 0) return line("total", each.trim());
    return line(each.startsWith(" ") ? "part" : "total", each.slice(0, cut).trim(), each.slice(cut + 2));
  });
}
