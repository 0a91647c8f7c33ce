// What Memory Report shows: a reading, and the models that ComfyUI manages.

import type { Reading } from "../shapes/report.ts";
import { formatBytes, size } from "./amounts.ts";
import { type Fields, fields, is, list, number, type Promised, string } from "./fields.ts";
import { line, type Line } from "./lines.ts";
import type { LoadedModel, MemoryReport } from "./message.ts";
import { olderLines } from "./older.ts";

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
    const { device, bytes } = fields(each);
    return line("total", `${model(fields(each))} on ${string(device)}`, `${size(number(bytes))} loaded`);
  });
  return [...lines, ...models];
}

/** A model by the files that people know, else by its class. */
function model({ name, files, part }: Fields<LoadedModel>): string {
  const from = list(files).map((file) => string(file)).filter((file) => file !== "");
  const what = string(part);
  return from.length > 0 && what !== "" ? `${from.join(" + ")}, ${what}` : `model ${string(name)}`;
}
