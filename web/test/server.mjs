// A real ComfyUI server for the browser tests, with a folder and a port of its own.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const VERSION = "0.30.0";
const CACHE = process.env.MEMSWEEP_CACHE ?? join(homedir(), ".cache", "memsweep");
const TREE = process.env.MEMSWEEP_COMFYUI ?? join(CACHE, "comfyui", VERSION);
const PYTHON = join(CACHE, "venv", "bin", "python");
const PACK = process.env.MEMSWEEP_PACK ?? fileURLToPath(new URL("../..", import.meta.url));
const CHECKPOINT = join(process.env.MEMSWEEP_CHECKPOINTS ?? join(CACHE, "checkpoints"), "small.safetensors");
/** The name the examples use. */
const EXAMPLE_CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors";
/** Without the first-run tour over the canvas. */
const SETTINGS = { "Comfy.TutorialCompleted": true, "Comfy.Workflow.ShowMissingModelsWarning": false };

/** Starts the server; resolves once it answers. `settings` are the front-end's. */
export async function startComfyUI(settings = {}) {
  const base = await mkdtemp(join(tmpdir(), "memsweep-browser-"));
  for (const name of ["custom_nodes", "models/checkpoints", "input", "output", "user/default"]) {
    await mkdir(join(base, name), { recursive: true });
  }
  await symlink(PACK, join(base, "custom_nodes", "memsweep"));
  await copyFile(join(TREE, "input", "example.png"), join(base, "input", "example.png"));
  const checkpoint = join(base, "models", "checkpoints", EXAMPLE_CHECKPOINT);
  const hasCheckpoint = existsSync(CHECKPOINT);
  // An empty file is enough to open the examples, though not to run them.
  if (hasCheckpoint) await symlink(CHECKPOINT, checkpoint);
  else await writeFile(checkpoint, "");
  await writeFile(
    join(base, "user", "default", "comfy.settings.json"),
    JSON.stringify({ ...SETTINGS, ...settings }),
  );
  const port = await freePort();
  const flags = ["--cpu", "--listen", "127.0.0.1", "--port", `${port}`, "--base-directory", base];
  const child = spawn(
    PYTHON,
    ["main.py", ...flags, "--database-url", "sqlite:///:memory:", "--disable-api-nodes"],
    { cwd: TREE, stdio: ["ignore", "pipe", "pipe"] },
  );
  let log = "";
  const keep = (chunk) => {
    log = (log + chunk).slice(-100_000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const ended = new Promise((resolve) => {
    child.once("error", resolve);
    child.once("exit", resolve);
  });
  // However this process ends, the server ends with it.
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
  const stop = async () => {
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await ended;
    clearTimeout(late);
    process.off("exit", end);
    await rm(base, { recursive: true, force: true });
  };
  const address = `http://127.0.0.1:${port}`;
  try {
    await answers(`${address}/system_stats`, child);
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${log}`);
  }
  return { address, hasCheckpoint, log: () => log, stop };
}

async function answers(address, child) {
  // A first start on a busy machine was seen to take 83 s.
  for (let tries = 0; tries < 600; tries += 1) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error("the server ended");
    const status = await new Promise((resolve) => {
      get(address, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      }).once("error", () => resolve(null));
    });
    if (status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  throw new Error("the server did not answer in 300 s");
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
