// Writes the types of src/shapes from the JSON Schemas of the Rust types. With --check it writes
// nothing and fails when a committed file does not match its schema.

import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

/** The schemas that the page reads. They share most types, so they make one file. */
const NAMES = ["memory-report", "report"];
const FILE = "report.ts";
const SCHEMAS = new URL("../../schemas/", import.meta.url);
const SHAPES = new URL("../src/shapes/", import.meta.url);

/** A reference beside a description keeps the name of its type; the compiler would write it out. */
function named(schema) {
  if (Array.isArray(schema)) return schema.map(named);
  if (typeof schema !== "object" || schema === null) return schema;
  const { $ref, ...rest } = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, named(value)]));
  if ($ref === undefined) return rest;
  return Object.keys(rest).length === 0 ? { $ref } : { ...rest, allOf: [{ $ref }] };
}

const $defs = {};
for (const name of NAMES) {
  const { title, $defs: shared, $schema, ...root } = JSON.parse(await readFile(new URL(`${name}.json`, SCHEMAS), "utf8"));
  for (const [type, schema] of Object.entries({ ...shared, [title]: root })) {
    assert.deepEqual($defs[type] ?? schema, schema, `${type} is another type in ${name}.json`);
    $defs[type] = schema;
  }
}
const shown = { description: "What a node shows.", anyOf: [], $defs };
shown.anyOf = ["MemoryReport", "Report"].map((type) => ({ $ref: `#/$defs/${type}` }));
const text = await compile(named(shown), "Shown", {
  // A field that no schema knows is a mistake of ours: reading it must not compile.
  additionalProperties: false,
  bannerComment: [
    `// Written by \`npm run shapes\` from ${NAMES.map((name) => `schemas/${name}.json`).join(" and ")}, which are`,
    "// made from the Rust types: edit those, not this file. Long because it holds all of its schemas.",
  ].join("\n"),
  cwd: fileURLToPath(SCHEMAS),
  style: { printWidth: 110 },
});

const stale = [];
for (const name of await readdir(SHAPES)) {
  if (name !== FILE) stale.push(`web/src/shapes/${name} is made from no schema`);
}
const file = new URL(FILE, SHAPES);
if (!process.argv.includes("--check")) await writeFile(file, text);
else if ((await readFile(file, "utf8").catch(() => "")) !== text) {
  stale.push(`web/src/shapes/${FILE} is stale: run \`npm run shapes\` in web and commit it`);
}
if (stale.length > 0) {
  console.error(stale.join("\n"));
  process.exit(1);
}
console.log(`web/src/shapes: ${FILE} matches ${NAMES.length} schemas`);
