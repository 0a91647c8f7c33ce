// The only contact with ComfyUI's front-end. A report is shown in a DOM widget that is in no saved
// workflow and in no prompt, and the size saved for the node is the one it had before the report
// made it taller.

import { api } from "comfyui/api";
import { app, type ComfyNode, type Graph, type Saved, type Setting } from "comfyui/app";

import type { NodeReport } from "./report/lines.ts";
import { ReportView } from "./view.ts";

const WIDGET = "memsweep_report";
const WIDGET_VALUES = ["widgets_values", "widgets_values_named"] as const;
const LEAST_HEIGHT = 44;
const LEAST_WIDTH = 360;
/** What the frame around the widget takes of the node's width. */
const MARGIN = 20;

/** What the rest of the extension decides. */
export interface Wiring {
  /** The extension's name in ComfyUI's list. */
  name: string;
  /** The classes whose nodes show a report. */
  keys: ReadonlySet<string>;
  /** What users can choose in ComfyUI's settings. */
  settings: Setting[];
  /** Reads a node's output; null where it holds no report. */
  read(output: unknown): Promise<NodeReport | null>;
  /** Whether it is of this prompt although the node itself came from the cache. */
  isNew(output: unknown): boolean;
}

type Size = [number, number];

interface Shown {
  view: ReportView;
  /** The node's size before the report, and the one the report gave it. */
  plain: Size;
  grown: Size;
  /** What the node was saved without before it had the report. */
  absent: readonly (typeof WIDGET_VALUES)[number][];
}

/** Registers the extension. Nothing is drawn until a node has a report. */
export function connect({ name, keys, settings, read, isNew }: Wiring): void {
  const shown = new WeakMap<ComfyNode, Shown>();
  /** The last output of each node: unpacking takes a moment, and only the last one counts. */
  const latest = new WeakMap<ComfyNode, unknown>();
  /** The nodes that the running prompt takes from the cache. */
  let cached = new WeakSet<ComfyNode>();

  const show = async (node: ComfyNode, output: unknown): Promise<void> => {
    latest.set(node, output);
    const report = await read(output);
    if (report === null || latest.get(node) !== output) return;
    const entry = shown.get(node) ?? addView(node);
    shown.set(node, entry);
    entry.view.show(report);
    if (cached.has(node) && !isNew(output)) entry.view.markStale();
    makeRoom(node, entry);
  };

  app.registerExtension({
    name,
    settings,
    nodeCreated(node) {
      if (!keys.has(node.comfyClass ?? "")) return;
      const executed = node.onExecuted;
      node.onExecuted = function (this: ComfyNode, output) {
        executed?.call(this, output);
        void show(this, output);
      };
      const serialized = node.onSerialize;
      node.onSerialize = function (this: ComfyNode, saved) {
        serialized?.call(this, saved);
        const entry = shown.get(this);
        if (entry === undefined) return;
        savePlainSize(saved, entry);
        saveNoWidget(saved, entry);
      };
    },
    // A workflow whose tab is opened again, or one that is opened from the history.
    onNodeOutputsUpdated(outputs) {
      for (const [id, output] of Object.entries(outputs)) {
        const node = findNode(id);
        if (node && keys.has(node.comfyClass ?? "")) void show(node, output);
      }
    },
  });

  api.addEventListener("execution_start", () => {
    cached = new WeakSet();
  });
  // The old report of a cached node may arrive again as if it were new, so the node is remembered.
  api.addEventListener("execution_cached", (event) => {
    const nodes: unknown = (event as CustomEvent<{ nodes?: unknown }>).detail?.nodes;
    for (const id of Array.isArray(nodes) ? nodes : []) {
      const node = findNode(String(id));
      if (node === null) continue;
      cached.add(node);
      const entry = shown.get(node);
      if (entry === undefined) continue;
      entry.view.markStale();
      makeRoom(node, entry);
    }
  });
}

function addView(node: ComfyNode): Shown {
  const view = new ReportView();
  const before = node.serialize();
  const absent = WIDGET_VALUES.filter((key) => !(key in before));
  const widget = node.addDOMWidget(WIDGET, WIDGET, view.element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true,
    getMinHeight: () => LEAST_HEIGHT,
    getValue: () => undefined,
    setValue: () => undefined,
  });
  widget.serialize = false;
  // Over a report that does not scroll, the wheel zooms the canvas as it does everywhere else.
  view.element.addEventListener("wheel", (event) => {
    if (!view.scrolls() || event.ctrlKey) app.canvas?.processMouseWheel?.(event);
  });
  const size: Size = [node.size[0], node.size[1]];
  return { view, plain: size, grown: size, absent };
}

/** Grows the node until the report fits. A size the user chose is only ever made larger. */
function makeRoom(node: ComfyNode, entry: Shown): void {
  const [width, height] = node.size;
  if (!sameSize(node.size, entry.grown)) entry.plain = [width, height];
  const wantedWidth = Math.max(entry.plain[0], LEAST_WIDTH);
  const bare = node.computeSize()[1] - LEAST_HEIGHT;
  const wantedHeight = bare + entry.view.heightAt(wantedWidth - MARGIN) + MARGIN;
  node.setSize([wantedWidth, Math.max(entry.plain[1], wantedHeight)]);
  const settle = (): void => {
    entry.grown = [node.size[0], node.size[1]];
  };
  settle();
  // The front-end moves a widget onto its node when it draws the canvas, which nothing else may cause:
  // until then the report lies across the whole page.
  app.canvas?.setDirty?.(true, true);
  // The front-end's newer node design lays out the node itself and then corrects its size.
  requestAnimationFrame(() => requestAnimationFrame(settle));
}

function savePlainSize(saved: Saved, entry: Shown): void {
  if (sameSize(saved.size, entry.grown)) saved.size = [...entry.plain];
}

/** A report is a widget, and newer front-ends save a list of values for a node that has one, though this
 * one has none: what was not there before the report came does not stay. */
function saveNoWidget(saved: Saved, entry: Shown): void {
  for (const key of entry.absent) if (isEmpty(saved[key])) delete saved[key];
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

function sameSize(size: unknown, other: Size): boolean {
  const given = size as ArrayLike<number> | undefined;
  return given?.[0] === other[0] && given[1] === other[1];
}

/** By id: `7`; inside a subgraph `<subgraph's id>:7` (stored outputs) or `<node>:7` (messages). */
function findNode(id: string): ComfyNode | null {
  const path = id.split(":");
  const last = path.pop() ?? "";
  const root = app.rootGraph ?? app.graph;
  let graph: Graph | undefined = root;
  for (const step of path) {
    graph = root?.subgraphs?.get(step) ?? graph?.getNodeById(step)?.subgraph;
  }
  return graph?.getNodeById(last) ?? null;
}
