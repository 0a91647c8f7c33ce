import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import { unpacked } from "./packed.ts";

const TEXT = '{"schema":1,"notes":["\u00fc"]}';

function message(report: unknown) {
  return { memsweep: [{ text: "short\nlong", report }] };
}

test("a packed report is unpacked, and the text stays", async () => {
  const packed = deflateSync(Buffer.from(TEXT)).toString("base64");
  assert.deepEqual(await unpacked(message(packed)), message(TEXT));
});

test("what is not packed gives no report and no error", async () => {
  for (const broken of ["", "%", "abcd", btoa("no zlib"), 7, null, { schema: 1 }]) {
    assert.deepEqual(await unpacked(message(broken)), message(null), String(broken));
  }
});

test("other outputs stay as they are", async () => {
  for (const other of [null, undefined, "x", {}, { memsweep: 1 }, { memsweep: [1, null, {}] }]) {
    assert.deepEqual(await unpacked(other), other);
  }
});
