// Builds the one bundle ComfyUI loads. With --check it writes nothing and fails when the committed
// bundle does not match the source.

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const BUNDLE = fileURLToPath(new URL("../../comfyui/web/memsweep.js", import.meta.url));

/** Relative, because an installer may give the pack's folder another name. */
const comfyui = {
  name: "comfyui",
  setup(builder) {
    builder.onResolve({ filter: /^comfyui\/(app|api)$/ }, ({ path }) => ({
      path: `../../scripts/${path.slice("comfyui/".length)}.js`,
      external: true,
    }));
  },
};

const result = await build({
  entryPoints: [fileURLToPath(new URL("../src/main.ts", import.meta.url))],
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  banner: { js: "// Built from web/src by `npm run build`. Edit the source, not this file." },
  plugins: [comfyui],
  write: false,
});
const built = result.outputFiles[0].text;

if (process.argv.includes("--check")) {
  const committed = await readFile(BUNDLE, "utf8").catch(() => "");
  if (committed !== built) {
    console.error("comfyui/web/memsweep.js is stale: run `npm run build` in web and commit it");
    process.exit(1);
  }
  console.log("comfyui/web/memsweep.js matches the source");
} else {
  await writeFile(BUNDLE, built);
  console.log(`comfyui/web/memsweep.js: ${built.length} bytes`);
}
