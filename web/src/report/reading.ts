// What Memory Report shows: a reading, and the models that ComfyUI manages.

import type { MemoryReport, Reading } from "../shapes/report.ts";
import { formatBytes, size } from "./amounts.ts";
import { type Fields, fields, is, list, number, type Promised, string } from "./fields.ts";
import { line, type Line } from "./lines.ts";
import { olderLines } from "./older.ts";
import { rest } from "./rest.ts";

/** The headline: RAM, and each device that tells its use. */
export function levels(value: Promised<Reading>): string {
  const reading = fields(value);
  const process = fields(reading.process);
  const ram = number(process.resident) ?? number(process.anonymous);
  const parts = [ram === null ? "RAM unknown" : `RAM ${formatBytes(ram)}`];
  for (const each of list(reading.devices)) {
    const device = fields(each);
    const bytes = number(fields(device.driver).used) ?? number(fields(device.torch).reserved);
    if (bytes !== null) parts.push(`${string(device.id)} ${formatBytes(bytes)}`);
  }
  return parts.join(", ");
}

/** The balance sheet, line by line, and the models. */
export function balance(report: Fields<MemoryReport>, text: string): Line[] {
  if (!("lines" in report)) return olderLines(text);
  const lines = list(report.lines).map((each) => {
    const { name, bytes, part } = fields(each);
    return line(is(part, true) ? "part" : "total", string(name), size(number(bytes)));
  });
  const models = list(report.models).map((each) => {
    const { what, name, device, bytes, pinned } = fields(each);
    const shown = string(what) || `model ${string(name)} on ${string(device)}`;
    const ram = number(pinned) ? `, ${size(number(pinned))} of RAM pinned for it` : "";
    return line("total", shown, `${size(number(bytes))} loaded${ram}`);
  });
  const notes = list(report.notes).map((note) => line("note", string(fields(note).reason)));
  return [...lines, ...models, ...rest(report.rest), ...notes];
}
