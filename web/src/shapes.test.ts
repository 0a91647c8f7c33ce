import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { Ajv2020 } from "ajv/dist/2020.js";

import { type Fields, fields, is, number, promised, string } from "./report/fields.ts";
import type { Report } from "./shapes/report.ts";

// The runner's working folder is `web`.
const FIXTURES = "../fixtures";
const SCHEMAS = "../schemas";
const KINDS = ["inventory", "plan", "reading", "report"];

/** Says why a value is not what the schema wants; "" when it is. */
function validator(name: string): (value: unknown) => string {
  const ajv = new Ajv2020({ allowUnionTypes: true });
  // Rust's number types. What they allow is said by minimum and maximum too, as far as JSON can hold it.
  for (const format of ["uint32", "uint64", "int64", "double"]) ajv.addFormat(format, true);
  const validate = ajv.compile(json(`${SCHEMAS}/${name}.json`));
  return (value) => (validate(value) ? "" : ajv.errorsText(validate.errors));
}

function json(path: string): any {
  return JSON.parse(readFileSync(path, "utf8"));
}

test("every golden file is what its schema says", () => {
  const found = new Map(KINDS.map((kind) => [kind, 0]));
  const validators = new Map(KINDS.map((kind) => [kind, validator(kind)]));
  for (const name of readdirSync(FIXTURES).filter((each) => each.endsWith(".json"))) {
    const kind = name.split("-")[0] ?? "";
    const validate = validators.get(kind);
    assert.ok(validate, `${name} has no schema`);
    assert.equal(validate(json(`${FIXTURES}/${name}`)), "", name);
    found.set(kind, (found.get(kind) ?? 0) + 1);
  }
  for (const [kind, count] of found) assert.ok(count >= 6, `${kind}: ${count}`);
});

test("every schema compiles, and what Python and Rust tell each other fits", () => {
  for (const name of readdirSync(SCHEMAS)) validator(name.replace(/\.json$/, ""));
  const report = json(`${FIXTURES}/report-held.json`);
  const [action, outcome] = [validator("action"), validator("outcome")];
  for (const row of report.rows) {
    assert.equal(action(row.action), "");
    assert.equal(outcome(row.outcome), "");
  }
  assert.equal(outcome({ kind: "done" }), "", "defaults may be left out");
  assert.equal(validator("settings")({ goal: { device_free: { device: "cuda:0", bytes: 1 } } }), "");
});

test("a planted fault is found", () => {
  const report = (change: (report: any) => void): string => {
    const value = json(`${FIXTURES}/report-held.json`);
    change(value);
    return validator("report")(value);
  };
  assert.equal(report(() => undefined), "");
  const faults: [string, (report: any) => void][] = [
    ["a field is missing", (value) => delete value.headline],
    ["a field within is missing", (value) => delete value.before.process.resident],
    ["bytes as text", (value) => (value.rows[0].estimated = "3")],
    ["bytes below zero", (value) => (value.before.process.resident = -1)],
    ["half a byte", (value) => (value.freed.process_anonymous = 0.5)],
    ["an unknown verdict", (value) => (value.rows[0].verdict = "perhaps")],
    ["an unknown outcome", (value) => (value.rows[0].outcome = { kind: "unheard" })],
    ["an outcome without its reason", (value) => (value.rows[0].outcome = { kind: "skipped" })],
    ["a goal with a misspelt name", (value) => (value.goal = { ram_avaliable: 1 })],
    ["a parked row without its bytes", (value) => delete value.rows.find((row: any) => row.outcome.kind === "parked").outcome.bytes],
  ];
  for (const [what, change] of faults) assert.notEqual(report(change), "", what);
  assert.notEqual(validator("inventory")({ models: [{ nme: "x" }] }), "", "a misspelt fact");
  assert.notEqual(validator("outcome")({ kind: "parked", byte: 1 }), "", "a misspelt outcome");
});

test("fields that no schema knows, and fields taken for something else, do not compile", () => {
  const report: Fields<Report> = fields(promised<Report>({ level: "park", dry_run: true }));
  // @ts-expect-error No report has this field.
  assert.equal(report.levels, undefined);
  // @ts-expect-error A text is no number.
  assert.equal(number(report.level), null);
  // @ts-expect-error There is no such level.
  assert.equal(is(report.level, "parking"), false);
  assert.equal(string(report.level), "park");
  assert.equal(is(report.dry_run, true), true);
});
