// Registers the extension: every MemSweep node shows its last report on itself.

import { connect } from "./comfy.ts";
import { NODE_KEYS } from "./keys.ts";
import { unpacked } from "./packed.ts";
import { nodeReport, ranAtEnd } from "./report/read.ts";
import { SETTINGS } from "./settings.ts";

connect({
  name: "MemSweep.Reports",
  keys: NODE_KEYS,
  settings: SETTINGS,
  isNew: ranAtEnd,
  read: async (output) => nodeReport(await unpacked(output)),
});
