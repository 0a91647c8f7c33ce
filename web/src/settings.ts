// What users can choose in ComfyUI's settings. `comfyui/at_end.py` reads what was chosen.

import type { Setting } from "comfyui/app";

export const SETTINGS: Setting[] = [
  {
    id: "MemSweep.AfterFailure",
    category: ["MemSweep", "Sweeps", "AfterFailure"],
    name: "Sweep after a prompt that failed or was cancelled",
    tooltip:
      "How far: off, or a level of Free Memory (Any). It runs once ComfyUI is done with the prompt, and its report is in the log and on a MemSweep node of the workflow.",
    type: "combo",
    options: ["off", "trim", "collect", "unload", "evict", "park"],
    defaultValue: "off",
  },
];
