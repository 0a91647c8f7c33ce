// The nodes that show a report, by class key.

export const NODE_KEYS: ReadonlySet<string> = new Set([
  "FreeMemoryImage",
  "FreeMemoryLatent",
  "FreeMemoryModel",
  "FreeMemoryCLIP",
  "FreeMemoryString",
  "CleanMemory_PurgeVRAM",
  "CleanMemory_PurgeRAM",
  "CleanMemory_PurgeAll",
  "CleanMemory_PurgePass",
  "CleanMemory_PurgeRAMProtectedMulti",
  "CleanMemory_PurgePassMultiInput",
  "MemSweepFree",
  "MemSweepReleaseModel",
  "MemSweepReport",
]);
