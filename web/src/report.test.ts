import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { NODE_KEYS } from "./keys.ts";
import { formatBytes } from "./report/amounts.ts";
import type { NodeReport } from "./report/lines.ts";
import { nodeReport } from "./report/read.ts";

// The golden files of the library's own tests. The runner's working folder is `web`.
const FIXTURES = "../fixtures";

function samples(): { name: string; report: Record<string, unknown> }[] {
  return readdirSync(FIXTURES)
    .filter((name) => /^report-.*\.json$/.test(name))
    .map((name) => ({ name, report: JSON.parse(readFileSync(`${FIXTURES}/${name}`, "utf8")) }));
}

function read(report: unknown): NodeReport {
  const message = { text: "summary\nmore", report: JSON.stringify(report) };
  const result = nodeReport({ memsweep: [message] });
  assert.ok(result);
  return result;
}

function sample(name: string): NodeReport {
  const found = samples().find((each) => each.name === `report-${name}.json`);
  assert.ok(found, `no sample ${name}`);
  return read(found.report);
}

function shown(report: NodeReport): string[] {
  return report.lines.map(({ kind, label, value }) => `${kind}: ${label} | ${value}`);
}

test("bytes read in binary units, as in the library", () => {
  const rows: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1_048_524, "1023.9 KiB"],
    [1_048_575, "1.0 MiB"],
    [3_714_056_192, "3.5 GiB"],
    [-1536, "-1.5 KiB"],
    [2 ** 64, "16384.0 PiB"],
  ];
  for (const [bytes, text] of rows) assert.equal(formatBytes(bytes), text);
});

test("every sample report becomes lines without an undefined or a NaN", () => {
  const all = samples();
  assert.ok(all.length >= 4);
  for (const { name, report } of all) {
    const result = read(report);
    assert.ok(result.headline.length > 0, name);
    assert.ok(result.lines.length > 0, name);
    assert.doesNotMatch(JSON.stringify(result), /undefined|NaN|\[object/, name);
  }
});

test("the turns of a loop are told", () => {
  const { report } = samples().find(({ name }) => name === "report-sd15-cpu.json") ?? {};
  const lines = (turns: number): string[] => read({ ...report, turns }).lines.map(({ label }) => label);
  assert.ok(lines(30).includes("Given back in 30 turns. What follows is from the last one."));
  assert.ok(!lines(1).some((label) => label.includes("turns")));
  const totals = (turns: number): string[] =>
    read({ ...report, turns }).lines.filter(({ kind }) => kind === "total").map(({ detail }) => detail ?? "");
  assert.ok(totals(1).every((detail) => detail.includes(" \u2192 ")));
  assert.ok(totals(30).every((detail) => / now$/.test(detail) && !detail.includes("\u2192")));
});

test("a sweep shows totals, its steps with measured bytes, and what it kept", () => {
  const report = sample("sd15-cpu");
  assert.equal(report.headline, "RAM 3.8 GiB freed");
  assert.equal(report.badge, "park \u2192 evict");
  const [first] = report.lines;
  assert.equal(
    first?.detail,
    'feeds output node #10 CleanMemory_PurgeAll directly; ComfyUI\'s "Free model and node cache" drops it, and it is computed again',
  );
  assert.deepEqual(shown(report), [
    "stayed: Not freed: 8-VAEDecode | 12.0 MiB",
    "total: Private RAM | 3.8 GiB freed",
    "total: Resident RAM | 3.8 GiB freed",
    "step: Drop cached outputs of 4 nodes | 3.4 GiB freed",
    "step: Collect reference cycles | 4.0 MiB freed",
    "step: Unload model BaseModel on cpu | unchanged",
    "step: Unload model SD1ClipModel on cpu | unchanged",
    "step: Unload model AutoencoderKL on cpu | unchanged",
    "step: Collect reference cycles | 156.0 MiB freed",
    "step: Drop page cache of model files | 1.9 GiB claimed",
    "step: Trim C heap | 166.0 MiB freed",
    "note: 2 steps not run | ",
    "kept: 8-VAEDecode | 12.0 MiB",
    "stayed: Held: mapped files (libraries, model weights), which the system takes back when it needs the RAM | 342.0 MiB",
    "note: parking is switched off: the sweep went as far as evict | ",
    "note: protected by what is connected: 1 block of memory, 12.0 MiB | ",
  ]);
});

test("what was parked, destroyed or left alone is shown with owners and reasons", () => {
  const report = sample("held");
  assert.equal(report.badge, "destroy");
  assert.deepEqual(shown(report).slice(8, 21), [
    "step: Destroy tensors that somebody still holds | 1.4 GiB freed",
    "part: 212 tensors of global CACHE of custom_nodes.upscaler | 1.4 GiB",
    "part: 1 tensor of unknown | 6.0 MiB",
    "kept: numpy arrays hold it | 64.0 MiB",
    "step: Collect reference cycles | unchanged",
    "step: Park memory that is held and idle | 2.0 GiB freed",
    "part: already on disk, not written again | 300.0 MiB",
    "part: back in memory, of everything parked | 12.0 MiB",
    "problem: Parking ended early | ",
    "kept: page-locked | 900.0 MiB",
    "kept: a mapped file | 5.0 MiB",
    "step: Trim C heap | unchanged",
    "note: 4 steps not run | ",
  ]);
});

test("memory that grew is never shown as freed", () => {
  const report = sample("two-gpus");
  assert.equal(report.headline, "RAM 3.4 GiB more, cuda:0 3.7 GiB freed, cuda:1 100.0 MiB freed");
  assert.ok(shown(report).includes("total: Private RAM | 3.4 GiB more"));
  assert.ok(shown(report).includes("total: cuda:0, all programs | 3.7 GiB freed"));
});

test("tensors that went into torch's cache are shown as tensors, not as device memory", () => {
  const steps = shown(sample("two-gpus"));
  assert.ok(steps.includes("step: Unload model BaseModel on cuda:0 | 3.2 GiB more, cuda:0 tensors 3.2 GiB freed"));
  assert.ok(steps.includes("step: Empty device cache | cuda:0 3.5 GiB freed"));
});

test("a goal is shown as met only when the report says so", () => {
  assert.ok(shown(sample("two-gpus")).includes("note: The goal was met. | "));
  const row = { schema: 1, rows: [], goal: { ram_available: 1 } };
  assert.ok(shown(read({ ...row, goal_met: false })).includes("note: The goal was not met. | "));
  assert.ok(shown(read({ ...row, goal_met: null })).includes("note: It is unknown whether the goal was met. | "));
});

test("the headline is what the report says it is, whatever its other numbers are", () => {
  const freed = { process_anonymous: 5 * 2 ** 30, devices: [{ id: "cuda:0", ours: 7 }] };
  const headline = {
    freed: [
      { place: "process", measure: "charged", bytes: 2 ** 30 },
      { place: "cuda:0", measure: "driver_process", bytes: -(2 ** 20) },
      { place: "cuda:1", measure: "all_programs", bytes: 0 },
    ],
    parked: 2 ** 29,
    failed_steps: 1,
  };
  assert.equal(
    read({ schema: 1, freed, headline }).headline,
    "Memory 1.0 GiB freed, cuda:0 1.0 MiB more, cuda:1, all programs: unchanged, 512.0 MiB moved to disk, 1 step failed",
  );
  assert.equal(read({ schema: 1, freed, headline: { freed: [] } }).headline, "RAM not measured");
});

test("a step shows the places that the report says moved", () => {
  const gave = [
    { place: "process", measure: "private", bytes: -1024 },
    { place: "cuda:0", measure: "tensors", bytes: 2048 },
  ];
  const row = { action: { kind: "collect" }, what: "x", outcome: { kind: "done" }, measured: { process_anonymous: 9 }, gave };
  assert.deepEqual(shown(read({ schema: 1, headline: {}, rows: [row] })), [
    "step: Collect x | 1.0 KiB more, cuda:0 tensors 2.0 KiB freed",
  ]);
});

test("a report that 0.1 left in a history is shown as 0.1 showed it", () => {
  const old = (name: string) => read(JSON.parse(readFileSync(`${FIXTURES}/0.1/report-${name}.json`, "utf8")));
  const headlines: Record<string, string> = {
    "sd15-cpu": "RAM 3.8 GiB freed",
    "two-gpus": "RAM 3.4 GiB more, cuda:0 3.7 GiB freed, cuda:1 100.0 MiB freed",
    leftovers: "RAM 3.4 GiB freed",
    windows: "Memory 80.0 MiB freed",
    "sd15-dry-run": "Dry run: nothing was released",
    failures: "Cancelled, Resident RAM 8.0 MiB more, 3 steps failed",
  };
  for (const [name, headline] of Object.entries(headlines)) assert.equal(old(name).headline, headline);
  const steps = shown(old("two-gpus")).filter((line) => line.startsWith("step: "));
  assert.deepEqual(steps.slice(4, 7), [
    "step: Unload model BaseModel on cuda:0 | 3.2 GiB more, cuda:0 tensors 3.2 GiB freed",
    "step: Unload model SD1ClipModel on cuda:0 | 235.0 MiB more, cuda:0 tensors 235.0 MiB freed",
    "step: Unload model Flux on cuda:1 | unchanged",
  ]);
});

test("what holds the rest is shown with its size, in a sweep and in a reading", () => {
  const sweep = shown(sample("named")).filter((each) => each.includes("Held: cuda"));
  assert.deepEqual(sweep, [
    "stayed: Held: cuda:0: tensors that no loaded model of ComfyUI explains | 65.0 MiB",
    "stayed: Held: cuda:0: this process outside torch, such as its context and other libraries | 300.0 MiB",
  ]);
  const rest = [{ bytes: null, reason: "an unknown number" }, { bytes: 5 }];
  const notes = [{ reason: "an error keeps something" }, {}];
  const reading = shown(read({ schema: 2, reading: {}, lines: [], models: [], rest, notes }));
  assert.deepEqual(reading, ["stayed: Held: an unknown number | ", "note: an error keeps something | "]);
});

test("a reading shows its lines as they are, whatever is in the names", () => {
  const lines = [
    { name: "process", bytes: 2048, part: false },
    { name: "odd: 7 GiB\nname", bytes: null, part: true },
  ];
  const models = [{ name: "SD15: 9 GiB", device: "cuda:0", bytes: 1024, pinned: 2048 }];
  const report = nodeReport({ memsweep: [{ text: "not read", report: JSON.stringify({ schema: 1, reading: {}, lines, models }) }] });
  assert.ok(report);
  assert.deepEqual(shown(report), [
    "total: process | 2.0 KiB",
    "part: odd: 7 GiB\nname | unknown",
    "total: model SD15: 9 GiB on cuda:0 | 1.0 KiB loaded, 2.0 KiB of RAM pinned for it",
  ]);
});

test("the reason for a missing report comes from its own fields", () => {
  const problem = { what: "MemSweep stopped.", why: "RuntimeError: it broke" };
  const report = nodeReport({ memsweep: [{ text: "other words", report: null, problem }] });
  assert.equal(report?.headline, "MemSweep stopped.");
  assert.deepEqual(report && shown(report), ["problem: RuntimeError: it broke | "]);
});

test("a reading of 0.1 shows its balance sheet, and no changes", () => {
  const text = "process: 4.7 GiB\n  anonymous: 4.2 GiB\n  other: unknown\nmodel SD15 on cuda:0: 1.6 GiB loaded\n";
  const reading = {
    process: { resident: 5_020_581_888 },
    devices: [{ id: "cuda:0", used: 9_556_721_664 }, { id: "cuda:1", used: null }],
  };
  const report = nodeReport({ memsweep: [{ text, report: JSON.stringify({ schema: 1, reading }) }] });
  assert.ok(report);
  assert.equal(report.headline, "RAM 4.7 GiB, cuda:0 8.9 GiB");
  assert.equal(report.badge, "reading");
  assert.deepEqual(shown(report), [
    "total: process | 4.7 GiB",
    "part: anonymous | 4.2 GiB",
    "part: other | unknown",
    "total: model SD15 on cuda:0 | 1.6 GiB loaded",
  ]);
});

test("what other programs gave back on a card is not shown as ours", () => {
  const measured = { devices: [{ id: "cuda:0", used: 3 * 2 ** 30, ours: 2 ** 20 }] };
  const row = { action: { kind: "collect" }, what: "x", outcome: { kind: "done" }, measured };
  const report = read({ schema: 1, freed: { process_anonymous: 0, ...measured }, rows: [row] });
  assert.ok(report.headline.includes("cuda:0 1.0 MiB freed"), report.headline);
  assert.ok(shown(report).includes("step: Collect x | cuda:0 1.0 MiB freed"), shown(report).join());
});

test("on Windows the commit charge is what was freed, and an emptied working set frees nothing", () => {
  const report = sample("windows");
  assert.equal(report.headline, "Memory 80.0 MiB freed");
  const totals = report.lines.filter(({ kind }) => kind === "total").map(({ label, value }) => `${label}: ${value}`);
  assert.deepEqual(totals, ["Commit charge: 80.0 MiB freed"]);
  const last = report.lines.find(({ detail }) => detail === "paged out, not freed");
  assert.equal(last?.value, "done");
});

test("an unknown number gives no total, and no zero", () => {
  const report = sample("failures");
  assert.ok(!report.lines.some(({ label }) => label === "Private RAM"));
  const row = { action: { kind: "collect" }, what: "x", outcome: { kind: "done" }, measured: { devices: [] } };
  assert.deepEqual(shown(read({ schema: 1, rows: [row] })), ["step: Collect x | not measured"]);
});

test("a failed step and a cancel stand out with their reason", () => {
  const report = sample("failures");
  const failed = report.lines.filter(({ value }) => value === "failed");
  assert.deepEqual(failed.map(({ kind }) => kind), ["problem", "problem", "problem"]);
  assert.match(failed[2]?.detail ?? "", /permission denied/);
  assert.ok(report.lines.some(({ kind, value }) => kind === "problem" && value === "cancelled"));
  assert.match(report.headline, /^Cancelled, .*3 steps failed$/);
});

test("the largest things kept come first, and the rest is counted", () => {
  const kept = sample("two-gpus").lines.filter(({ kind }) => kind === "kept");
  assert.deepEqual(kept.map(({ label }) => label), [
    "loader",
    "model ControlNet on cuda:1",
    "controlnet",
    "and 2 more",
  ]);
});

test("a dry run says so and shows estimates as estimates", () => {
  const report = sample("sd15-dry-run");
  assert.equal(report.headline, "Dry run: nothing was released");
  assert.match(report.badge, /dry run/);
  assert.ok(shown(report).includes("step: Drop cached outputs of 4 nodes | about 3.7 GiB"));
});

test("a claim that no reading shows is a problem, not a result", () => {
  assert.ok(shown(sample("two-gpus")).includes("problem: the readings do not show it | 2.0 GiB claimed"));
});

test("destroyed memory that no reading shows is a problem too", () => {
  const found = samples().find((each) => each.name === "report-held.json");
  const report = JSON.parse(JSON.stringify(found?.report));
  for (const row of report.rows) if (row.outcome.kind === "destroyed") row.verdict = "claim_not_seen";
  assert.ok(shown(read(report)).includes("problem: the readings do not show it | "));
});

test("a report of an unknown schema is shown as its text", () => {
  const report = nodeReport({ memsweep: [{ text: "short\nlong", report: '{"schema":3}' }] });
  assert.equal(report?.headline, "short");
  assert.deepEqual(report?.lines.map(({ label }) => label), ["long"]);
});

test("output without a report gives nothing", () => {
  for (const output of [null, undefined, 3, [], {}, { memsweep: [] }, { memsweep: [null] }, { memsweep: "x" }]) {
    assert.equal(nodeReport(output), null);
  }
});

test("a report whose fields have any other type still gives lines", () => {
  const odd = [null, 7, "x", [], {}, [null], [7], Number.NaN];
  for (const value of odd) {
    for (const field of ["level", "reading", "before", "after", "freed", "rows", "kept", "notes", "dry_run"]) {
      assert.doesNotMatch(JSON.stringify(read({ schema: 1, [field]: value })), /undefined|NaN/);
    }
  }
});

test("every node that shows a report has a help page, and every page a node", () => {
  const pages = readdirSync("../comfyui/web/docs").map((name) => name.replace(/\.md$/, ""));
  assert.deepEqual(pages.sort(), [...NODE_KEYS].sort());
});
