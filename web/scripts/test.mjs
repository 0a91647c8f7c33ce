// Bundles each src/*.test.ts and runs it with node's own test runner: Node 20 cannot read
// TypeScript by itself.

import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const WEB = fileURLToPath(new URL("..", import.meta.url));
const names = (await readdir(join(WEB, "src"))).filter((name) => name.endsWith(".test.ts"));
// Inside node_modules: ignored by git, and on the same disk as the rest of the tools.
const folder = await mkdtemp(join(WEB, "node_modules", ".memsweep-tests-"));
let status = 1;
try {
  await build({
    entryPoints: names.map((name) => join(WEB, "src", name)),
    bundle: true,
    platform: "node",
    format: "esm",
    outdir: folder,
    outExtension: { ".js": ".mjs" },
  });
  const files = names.map((name) => join(folder, name.replace(/\.ts$/, ".mjs")));
  status = spawnSync(process.execPath, ["--test", ...files], { cwd: WEB, stdio: "inherit" }).status;
} finally {
  await rm(folder, { recursive: true, force: true });
}
process.exit(status ?? 1);
