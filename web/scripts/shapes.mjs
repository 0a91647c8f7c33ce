// Writes the types of src/shapes from the JSON Schemas of the Rust types. With --check it writes
// nothing and fails when a committed file does not match its schema.

import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

/** The schemas that the page reads. */
const NAMES = ["memory-report", "report"];
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

const check = process.argv.includes("--check");
let stale = false;
for (const name of NAMES) {
  const schema = JSON.parse(await readFile(new URL(`${name}.json`, SCHEMAS), "utf8"));
  const text = await compile(named(schema), name, {
    // A field that no schema knows is a mistake of ours: reading it must not compile.
    additionalProperties: false,
    bannerComment: [
      `// Written by \`npm run shapes\` from schemas/${name}.json, which is made from the Rust types:`,
      "// edit those, not this file. Long because it holds all of its schema.",
    ].join("\n"),
    cwd: fileURLToPath(SCHEMAS),
    style: { printWidth: 110 },
  });
  const file = new URL(`${name}.ts`, SHAPES);
  if (!check) {
    await writeFile(file, text);
  } else if ((await readFile(file, "utf8").catch(() => "")) !== text) {
    console.error(`web/src/shapes/${name}.ts is stale: run \`npm run shapes\` in web and commit it`);
    stale = true;
  }
}
const known = NAMES.map((name) => `${name}.ts`);
for (const name of (await readdir(SHAPES)).filter((name) => !known.includes(name))) {
  console.error(`web/src/shapes/${name} is made from no schema`);
  stale = true;
}
if (stale) process.exit(1);
console.log(`web/src/shapes: ${NAMES.length} files match the schemas`);
