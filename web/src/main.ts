// Registers the extension: every MemSweep node shows its last report on itself.

import { connect } from "./comfy.ts";
import { NODE_KEYS, nodeReport } from "./model.ts";
import { unpacked } from "./packed.ts";

connect({
  name: "MemSweep.Reports",
  keys: NODE_KEYS,
  read: async (output) => nodeReport(await unpacked(output)),
});
