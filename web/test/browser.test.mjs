// The nodes in ComfyUI's real front-end, on a real server. `npm run test:browser`.
//
// Screenshots go to $MEMSWEEP_SCREENSHOTS, or to a folder under the system's temporary one.

import assert from "node:assert/strict";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

import { startComfyUI } from "./server.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLES = join(ROOT, "example_workflows");
const PAGES = join(ROOT, "comfyui", "web", "docs");
const SCREENSHOTS = process.env.MEMSWEEP_SCREENSHOTS ?? join(tmpdir(), "memsweep-screenshots");
const CHROMIUM_FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** The two ways the front-end draws nodes: on its canvas, and as elements of the page. */
const DESIGNS = [
  ["classic", false],
  ["modern", true],
];
const LONG = { timeout: 120_000 };

let server;
let browser;
let page;
/** What the browser's console and the page's errors say about our extension. */
let complaints;

before(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  server = await startComfyUI();
  browser = await chromium.launch({
    executablePath: process.env.MEMSWEEP_CHROMIUM ?? "/usr/bin/chromium",
    args: CHROMIUM_FLAGS,
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

beforeEach(async () => {
  await page?.close();
  complaints = [];
  page = await browser.newPage({ viewport: { width: 1500, height: 900 } });
  page.on("console", (message) => {
    const ours = message.location().url.includes("/extensions/memsweep/");
    if (message.type() === "error" && (ours || /memsweep/i.test(message.text()))) {
      complaints.push(message.text());
    }
  });
  page.on("pageerror", (error) => {
    if (/memsweep/i.test(`${error.message}${error.stack}`)) complaints.push(`${error.stack}`);
  });
  await page.goto(server.address);
  await page.waitForFunction(
    () => globalThis.app?.graph && app.extensions?.some(({ name }) => name === "MemSweep.Reports"),
    null,
    LONG,
  );
});

// A failure on a busy machine may not happen again: keep what it looked like.
afterEach(async (context) => {
  if (context.passed !== false) return;
  const file = join(SCREENSHOTS, `failed-${context.name.replace(/\W+/g, "-")}`);
  await writeFile(`${file}.log`, `${complaints.join("\n")}\n${server.log()}`);
  await page.screenshot({ path: `${file}.png` }).catch(() => undefined);
  context.diagnostic(`see ${file}.log and .png`);
});

async function example(name) {
  return JSON.parse(await readFile(join(EXAMPLES, `${name}.json`), "utf8"));
}

async function open(workflow, modern = false) {
  await page.evaluate(
    async ([graph, vue]) => {
      await app.extensionManager.setting.set("Comfy.VueNodes.Enabled", vue);
      await app.loadGraphData(graph);
      await app.extensionManager.command.execute("Comfy.Canvas.FitView");
    },
    [workflow, modern],
  );
  // The newer design measures the nodes it draws and stores their sizes.
  await page.waitForTimeout(1500);
}

/** The workflow as it would be saved, without the position of the view. */
async function saved() {
  const workflow = await page.evaluate(() => JSON.parse(JSON.stringify(app.graph.serialize())));
  delete workflow.extra?.ds;
  return workflow;
}

async function queue() {
  await page.evaluate(() => app.queuePrompt(0));
}

/** A report is as narrow as its node once the canvas has been drawn with it, and as wide as the page before. */
async function untilPlaced() {
  const narrow = () => [...document.querySelectorAll(".memsweep")].every((report) => report.offsetWidth < 600);
  await page.waitForFunction(narrow, null, { timeout: 10_000 });
}

async function screenshot(name) {
  await page.waitForTimeout(500);
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

for (const [design, modern] of DESIGNS) {
  test(`a queued workflow shows the report on the node (${design} design)`, async () => {
    // Another size for each design, or the second prompt would be served from the cache.
    const workflow = await example("batch");
    const scale = workflow.nodes.find(({ type }) => type === "ImageScale");
    scale.widgets_values[1] = modern ? 960 : 1024;
    await open(workflow, modern);
    const atFirst = await saved();
    await queue();
    await page.waitForSelector(".memsweep-headline", LONG);
    await screenshot(`batch-${design}`);

    assert.match(await page.textContent(".memsweep-headline"), /^RAM .*(freed|more|unchanged)/);
    assert.equal(await page.textContent(".memsweep-badge"), "park");
    const report = await page.textContent(".memsweep-lines");
    assert.match(report, /Resident RAM.*\u2192/);
    assert.match(report, /Trim C heap/);
    const box = await page.locator(".memsweep").boundingBox();
    assert.ok(box.width > 100 && box.height > 100, JSON.stringify(box));
    assert.ok(
      await page.locator(".memsweep").evaluate((at) => at.scrollHeight <= at.clientHeight + 1),
      "the whole report is in sight",
    );
    assert.deepEqual(await saved(), atFirst, "the saved workflow has not changed");
    assert.deepEqual(complaints, []);
  });
}

test("a node that is served from the cache says that its report is an earlier one", async () => {
  const workflow = await example("batch");
  workflow.nodes.find(({ type }) => type === "ImageScale").widgets_values[1] = 832;
  await open(workflow);
  await queue();
  await page.waitForSelector(".memsweep-headline", LONG);
  assert.equal(await page.locator(".memsweep-stale").count(), 0);
  await queue();
  await page.waitForSelector(".memsweep-stale", LONG);
  await screenshot("batch-earlier-run");
  assert.deepEqual(complaints, []);
});

test("the report is back when its workflow is opened again", async () => {
  const workflow = await example("batch");
  workflow.nodes.find(({ type }) => type === "ImageScale").widgets_values[1] = 896;
  await open(workflow);
  const tab = page.locator(".workflow-tab, [data-testid='workflow-tab']");
  await queue();
  await page.waitForSelector(".memsweep-headline", LONG);
  const before = await page.textContent(".memsweep-headline");
  const tabs = await tab.count();
  assert.ok(tabs > 0, "the workflow has a tab");
  await open(await example("end-of-workflow"));
  await page.waitForSelector(".memsweep-headline", { state: "detached", timeout: 20_000 });
  await tab.nth(tabs - 1).click();
  await page.waitForSelector(".memsweep-headline", { timeout: 20_000 });
  assert.equal(await page.textContent(".memsweep-headline"), before);
  assert.deepEqual(complaints, []);
});

function node(id, type, inputs, outputs, widgets, x) {
  return {
    id,
    type,
    pos: [x, 80],
    size: [340, 120],
    flags: {},
    order: id,
    mode: 0,
    inputs,
    outputs,
    properties: {},
    widgets_values: widgets,
  };
}

/** An image of this size, blurred, and one of our nodes before it is saved. */
function blurred(width, key, input, widgets) {
  const image = (name, link) => [{ name, type: "IMAGE", link }];
  const out = (link) => [{ name: "IMAGE", type: "IMAGE", links: [link] }];
  return {
    last_node_id: 4,
    last_link_id: 3,
    nodes: [
      node(1, "EmptyImage", [], out(1), [width, width, 1, 0], 40),
      node(2, "ImageBlur", image("image", 1), out(2), [31, 1], 440),
      node(3, key, [{ name: input, type: "*", link: 2 }], [{ name: input, type: "*", links: [3] }], widgets, 840),
      node(4, "SaveImage", image("images", 3), [], ["memsweep-blurred"], 1240),
    ],
    links: [
      [1, 1, 0, 2, 0, "IMAGE"],
      [2, 2, 0, 3, 0, "*"],
      [3, 3, 0, 4, 0, "IMAGE"],
    ],
    groups: [],
    config: {},
    extra: {},
    version: 0.4,
  };
}

test("a node that sweeps on every queue shows a new report although it comes from the cache", async () => {
  await open(blurred(200, "CleanMemory_PurgePass", "data", ["RAM", "every queue"]));
  await queue();
  await page.waitForSelector(".memsweep-headline", LONG);
  const lines = () => page.textContent(".memsweep-lines");
  assert.doesNotMatch(await lines(), /without reaching this node/);
  await queue();
  await page.waitForFunction(
    () => /without reaching this node/.test(document.querySelector(".memsweep-lines")?.textContent ?? ""),
    null,
    LONG,
  );
  await screenshot("every-queue");
  assert.equal(await page.locator(".memsweep-stale").count(), 0);
  assert.deepEqual(complaints, []);
});

test("a workflow of 0.1, which knew no `run`, opens with it as it was", async () => {
  await open(blurred(220, "MemSweepFree", "anything", ["trim", true]));
  const widgets = await page.evaluate(() =>
    app.graph.getNodeById(3).widgets.map(({ name, value }) => [name, value]),
  );
  assert.deepEqual(widgets, [["level", "trim"], ["system_wide", true], ["run", "when reached"]]);
  assert.deepEqual(complaints, []);
});

test("the setting for a sweep after a failure is in the dialog, and works", async () => {
  await page.evaluate(() => app.extensionManager.command.execute("Comfy.ShowSettingsDialog"));
  const row = page.getByText("Sweep after a prompt that failed or was cancelled");
  const section = page.getByText("MemSweep", { exact: true });
  await section.first().click({ timeout: 20_000 });
  await row.first().waitFor({ timeout: 20_000 });
  await screenshot("setting");
  await page.keyboard.press("Escape");

  // Too large a blur for one pixel.
  const broken = blurred(1, "MemSweepFree", "anything", ["trim", false, "when reached"]);
  await open(broken);
  await queue();
  await page.waitForTimeout(3000);
  assert.equal(await page.locator(".memsweep-headline").count(), 0, "off unless somebody asks for it");
  await page.evaluate(() => app.extensionManager.setting.set("MemSweep.AfterFailure", "collect"));
  try {
    await queue();
    await page.waitForSelector(".memsweep-headline", LONG);
    await screenshot("after-failure");
    assert.match(await page.textContent(".memsweep-lines"), /the prompt failed/);
    assert.equal(await page.textContent(".memsweep-badge"), "collect");
  } finally {
    await page.evaluate(() => app.extensionManager.setting.set("MemSweep.AfterFailure", "off"));
  }
  assert.deepEqual(complaints, []);
});

test("a terminal node and Memory Report show theirs, with no output wired", async () => {
  await open({
    last_node_id: 3,
    last_link_id: 2,
    nodes: [
      node(1, "EmptyImage", [], [{ name: "IMAGE", type: "IMAGE", links: [1, 2] }], [512, 512, 1, 0], 40),
      node(2, "CleanMemory_PurgeAll", [{ name: "anything", type: "*", link: 1 }], [], ["park"], 440),
      node(3, "MemSweepReport", [{ name: "anything", type: "*", link: 2 }], [], [], 840),
    ],
    links: [
      [1, 1, 0, 2, 0, "IMAGE"],
      [2, 1, 0, 3, 0, "IMAGE"],
    ],
    groups: [],
    config: {},
    extra: {},
    version: 0.4,
  });
  await queue();
  await page.waitForFunction(() => document.querySelectorAll(".memsweep-headline").length === 2, null, LONG);
  await untilPlaced();
  await screenshot("terminal-and-report");
  const badges = await page.locator(".memsweep-badge").allTextContents();
  assert.ok(badges.includes("reading"), badges.join());
  assert.ok(badges.includes("park"), badges.join());
  assert.deepEqual(complaints, []);
});

test("every example opens, with every node known and its settings as written", async () => {
  const names = (await readdir(EXAMPLES)).filter((name) => name.endsWith(".json")).sort();
  assert.ok(names.length >= 3);
  for (const name of names) {
    const workflow = await example(name.replace(/\.json$/, ""));
    await open(workflow);
    const opened = await saved();
    const unknown = await page.evaluate(() =>
      app.graph.nodes.filter((node) => node.has_errors || !LiteGraph.registered_node_types[node.type]).map((node) => node.type),
    );
    assert.deepEqual(unknown, [], name);
    for (const node of workflow.nodes) {
      const same = opened.nodes.find(({ id }) => id === node.id);
      assert.deepEqual(same?.widgets_values ?? [], node.widgets_values, `${name}: ${node.type}`);
    }
    assert.equal(opened.links.length, workflow.links.length, `${name}: links`);
    await screenshot(`example-${name.replace(/\.json$/, "")}`);
  }
  assert.deepEqual(complaints, []);
});

for (const name of ["end-of-workflow", "heavy-models"]) {
  test(`the example ${name} runs, and each of its nodes shows a report`, async (context) => {
    if (!server.hasCheckpoint) return context.skip("there is no small checkpoint: run `cargo xtask setup`");
    const workflow = await example(name);
    // The test's checkpoint is random, so a small image in one step says as much as a large one.
    workflow.nodes.find(({ type }) => type === "EmptyLatentImage").widgets_values = [64, 64, 1];
    workflow.nodes.find(({ type }) => type === "KSampler").widgets_values[2] = 1;
    await open(workflow);
    const atFirst = await saved();
    await queue();
    const ours = workflow.nodes.filter(({ type }) => /^(FreeMemory|CleanMemory|MemSweep)/.test(type));
    await page.waitForFunction(
      (count) => document.querySelectorAll(".memsweep-headline").length === count,
      ours.length,
      LONG,
    );
    await page.waitForFunction(() => app.graph.nodes.some((node) => node.imgs?.length), null, LONG);
    await page.evaluate(() => app.extensionManager.command.execute("Comfy.Canvas.FitView"));
    await screenshot(`run-${name}`);
    assert.equal(await page.locator(".memsweep-problem").count(), 0, "no step failed");
    assert.deepEqual(await saved(), atFirst, "the saved workflow has not changed");
    assert.deepEqual(complaints, []);
  });
}

test("the front-end is the one that was asked for", { skip: !process.env.MEMSWEEP_FRONT_END }, async () => {
  const version = await page.evaluate(() => globalThis.__COMFYUI_FRONTEND_VERSION__);
  assert.equal(version, process.env.MEMSWEEP_FRONT_END);
});

test("every help page is served where the front-end looks for it", async () => {
  for (const name of await readdir(PAGES)) {
    const status = await new Promise((resolve, reject) => {
      get(`${server.address}/extensions/memsweep/docs/${name}`, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      }).once("error", reject);
    });
    assert.equal(status, 200, name);
  }
});
