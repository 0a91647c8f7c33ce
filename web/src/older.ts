// Reports that 0.1 left in the history of a ComfyUI: they lack the fields that say which number
// speaks for a place. What 0.1 drew from them is drawn here, and nothing new comes here.

import { type Fields, list, number, record, string } from "./fields.ts";

/** The headline of a report without one. */
export function olderHeadline(report: Fields): Fields {
  const freed = record(report["freed"]);
  const devices = list(freed["devices"]).map(record).map((each) => place(string(each["id"]), "held", each["ours"]));
  const failed = list(report["rows"]).filter((row) => record(record(row)["outcome"])["kind"] === "failed");
  return { freed: [process(freed), ...devices].filter(known), failed_steps: failed.length };
}

/** What a step without that field gave back: every place that moved, else one that did not. */
export function olderGave(row: Fields): Fields[] {
  const freed = record(row["measured"]);
  const devices = list(freed["devices"]).map(record).map(outermost).filter((each) => each["bytes"] !== 0);
  const ram = process(freed);
  const moved = [ram, ...devices].filter((each) => known(each) && each["bytes"] !== 0);
  return moved.length > 0 ? moved : [ram].filter(known);
}

function process(freed: Fields): Fields {
  for (const [field, measure] of [["process_charged", "charged"], ["process_anonymous", "private"]] as const) {
    if (number(freed[field]) !== null) return place("process", measure, freed[field]);
  }
  return place("process", "resident", freed["process_resident"]);
}

/** The outermost number of ours that moved: what we gave back, else torch's cache, else its tensors. */
function outermost(device: Fields): Fields {
  const id = string(device["id"]);
  for (const [field, measure] of [["ours", "held"], ["torch_reserved", "held"], ["torch_allocated", "tensors"]] as const) {
    const bytes = number(device[field]) ?? 0;
    if (bytes !== 0) return place(id, measure, bytes);
  }
  return place(id, "held", 0);
}

function place(name: string, measure: string, bytes: unknown): Fields {
  return { place: name, measure, bytes };
}

function known(each: Fields): boolean {
  return number(each["bytes"]) !== null;
}

/** A reading as text, line by line: `name: amount`, the parts of a total indented. */
export function olderLines(text: string): { part: boolean; name: string; value: string }[] {
  const lines = text.split("\n").filter((each) => each.trim() !== "");
  return lines.map((each) => {
    const cut = each.lastIndexOf(": ");
    if (cut < 0) return { part: false, name: each.trim(), value: "" };
    return { part: each.startsWith(" "), name: each.slice(0, cut).trim(), value: each.slice(cut + 2) };
  });
}
