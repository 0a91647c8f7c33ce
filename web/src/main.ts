// Registers the extension: every MemSweep node shows its last report on itself.

import { connect } from "./comfy.ts";
import { NODE_KEYS } from "./keys.ts";
import { unpacked } from "./packed.ts";
import { nodeReport } from "./report/read.ts";

connect({
  name: "MemSweep.Reports",
  keys: NODE_KEYS,
  read: async (output) => nodeReport(await unpacked(output)),
});
