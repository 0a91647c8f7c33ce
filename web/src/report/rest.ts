// What holds the memory that is still in use.

import type { Rest } from "../shapes/report.ts";
import { formatBytes } from "./amounts.ts";
import { fields, list, number, type Promised, string } from "./fields.ts";
import { line, type Line } from "./lines.ts";

export function rest(rows: Promised<Rest[]>): Line[] {
  return list(rows).flatMap((each) => {
    const { reason, bytes } = fields(each);
    const size = number(bytes);
    return string(reason) === "" ? [] : [line("stayed", `Held: ${string(reason)}`, size === null ? "" : formatBytes(size))];
  });
}
