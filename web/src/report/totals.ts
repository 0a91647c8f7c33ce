// The process and each device, before and after.

import type { Report } from "../shapes/report.ts";
import { change, formatBytes } from "./amounts.ts";
import { type Fields, fields, is, list, number, type Promised, string } from "./fields.ts";
import { ARROW, line, type Line } from "./lines.ts";

type Bytes = Promised<number | null>;

export function totals(report: Fields<Report>): Line[] {
  const freed = fields(report.freed);
  const before = fields(report.before);
  const after = fields(report.after);
  const was = fields(before.process);
  const now = fields(after.process);
  // Between the turns of a loop memory is taken too, so before and after do not make up the sum.
  const total = (number(report.turns) ?? 1) > 1 ? sum : difference;
  const lines = [
    total("Private RAM", was.anonymous, now.anonymous, freed.process_anonymous),
    total("Commit charge", was.commit, now.commit, freed.process_charged),
    total("Footprint", was.footprint, now.footprint, freed.process_charged),
  ];
  // Where the system charges by another measure, resident RAM also falls when nothing was freed.
  if (number(freed.process_charged) === null) {
    lines.push(total("Resident RAM", was.resident, now.resident, freed.process_resident));
  }
  for (const each of list(after.devices)) {
    const device = fields(each);
    const id = string(device.id);
    const then = byId(before.devices, id);
    const gave = byId(freed.devices, id);
    lines.push(
      total(
        `${id}, all programs`,
        fields(then.driver).used,
        fields(device.driver).used,
        fields(gave.driver).used,
      ),
      total(
        `${id} torch`,
        fields(then.torch).reserved,
        fields(device.torch).reserved,
        fields(gave.torch).reserved,
      ),
    );
  }
  return lines.filter((each) => each !== null);
}

function difference(label: string, before: Bytes, after: Bytes, freed: Bytes): Line | null {
  const was = number(before);
  const now = number(after);
  if (was === null || now === null) return null;
  return line("total", label, change(number(freed)), `${formatBytes(was)} ${ARROW} ${formatBytes(now)}`);
}

function sum(label: string, _before: Bytes, after: Bytes, freed: Bytes): Line | null {
  const now = number(after);
  return now === null ? null : line("total", label, change(number(freed)), `${formatBytes(now)} now`);
}

function byId<T extends { id: string }>(devices: Promised<T[]>, id: string): Fields<T> {
  const found = list(devices).find((each) => {
    const device: Promised<{ id: string }> = each;
    return is(fields(device).id, id);
  });
  return fields(found);
}
