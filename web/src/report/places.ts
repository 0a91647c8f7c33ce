// What one place gave back, in words.

import type { Gave, Measure } from "../shapes/report.ts";
import { change } from "./amounts.ts";
import { fields, list, number, type Promised, string } from "./fields.ts";

const PROCESS = "process";

/** What each place gave back; one whose number is unknown is left out. */
export function places(values: Promised<Gave[]>): Gave[] {
  return list(values).flatMap((each) => {
    const { place, measure, bytes } = fields(each);
    const known = number(bytes);
    return known === null ? [] : [{ place: string(place), measure: string(measure) as Measure, bytes: known }];
  });
}

export function isProcess({ place }: Gave): boolean {
  return place === PROCESS;
}

/** What one place gave back. The report says which number speaks for it. */
export function gaveText({ place, measure, bytes }: Gave): string {
  return `${placeName(place, measure)} ${change(bytes)}`;
}

function placeName(place: string, measure: Measure): string {
  switch (measure) {
    case "charged":
      return "Memory";
    case "private":
      return "RAM";
    case "resident":
      return "Resident RAM";
    case "tensors":
      return `${place} tensors`;
    case "all_programs":
      return `${place}, all programs:`;
    default:
      return place;
  }
}
