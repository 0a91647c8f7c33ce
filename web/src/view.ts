// Lines -> DOM. Knows nothing of ComfyUI; text goes in as text, never as HTML.

import type { Line, LineKind, NodeReport } from "./report/lines.ts";

const STYLE_ID = "memsweep-style";
/** A report taller than this scrolls, so that a long one does not cover the workflow. */
const MOST_HEIGHT = 380;

// The front-end's own colours where it defines them, so that light and dark themes both work.
const STYLE = `
.memsweep { box-sizing: border-box; height: 100%; overflow: auto; padding: 8px 10px;
  border-radius: 8px; font: 12px/1.45 Inter, system-ui, sans-serif; font-variant-numeric: tabular-nums;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222);
  user-select: text; cursor: auto; scrollbar-width: thin; }
.memsweep-head { display: flex; gap: 8px; align-items: baseline; justify-content: space-between; }
.memsweep-headline { font-weight: 600; overflow-wrap: anywhere; }
.memsweep-badge { flex: none; padding: 0 7px; border-radius: 999px; font-size: 11px; white-space: nowrap;
  color: var(--descrip-text, #999); border: 1px solid var(--border-color, #4e4e4e); }
.memsweep-stale { color: var(--descrip-text, #999); }
.memsweep-lines { margin-top: 4px; }
.memsweep-line { display: flex; flex-wrap: wrap; column-gap: 10px; }
.memsweep-first { margin-top: 5px; padding-top: 5px; border-top: 1px solid var(--border-color, #4e4e4e); }
.memsweep-what { flex: 1 1 0; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.memsweep-detail { color: var(--descrip-text, #999); }
.memsweep-value { flex: none; min-width: 84px; text-align: right; }
.memsweep-total { flex-wrap: nowrap; column-gap: 8px; }
.memsweep-total .memsweep-value { min-width: 0; }
.memsweep-total .memsweep-detail { white-space: nowrap; }
.memsweep-total .memsweep-value, .memsweep-step .memsweep-value { font-weight: 600; }
.memsweep-problem .memsweep-detail, .memsweep-stayed .memsweep-detail, .memsweep-kept .memsweep-detail { flex-basis: 100%; padding-left: 10px; overflow-wrap: anywhere; }
.memsweep-part { padding-left: 10px; color: var(--descrip-text, #999); }
.memsweep-problem .memsweep-value { color: var(--error-text, #ff6b6b); }
.memsweep-kept .memsweep-value { color: var(--descrip-text, #999); }
.memsweep-note { color: var(--descrip-text, #999); }
.memsweep-note .memsweep-what, .memsweep-stayed .memsweep-what,
.memsweep-step .memsweep-what, .memsweep-kept .memsweep-what { white-space: normal; overflow-wrap: anywhere; }
`;

/** The report area of one node. */
export class ReportView {
  readonly element = document.createElement("div");

  constructor() {
    this.element.className = "memsweep";
  }

  /** Shows a report in place of the last one. */
  show(report: NodeReport): void {
    ensureStyle();
    const head = part("div", "memsweep-head");
    head.append(part("div", "memsweep-headline", report.headline));
    if (report.badge !== "") head.append(part("div", "memsweep-badge", report.badge));
    const lines = part("div", "memsweep-lines");
    let kind = report.lines[0]?.kind;
    for (const each of report.lines) {
      const row = lineElement(each);
      if (each.kind !== kind && starts(each)) row.classList.add("memsweep-first");
      kind = each.kind;
      lines.append(row);
    }
    this.element.replaceChildren(head, lines);
    this.element.scrollTop = 0;
  }

  /** Says that the node did not run this time, so that nobody takes the report for a new one. */
  markStale(): void {
    if (this.element.querySelector(".memsweep-stale") !== null) return;
    const note = part("div", "memsweep-stale", "From an earlier run: the input did not change, so the node did not run.");
    this.element.querySelector(".memsweep-head")?.after(note);
  }

  /** The height the content needs at a width. Measured on a copy: the node may not be on screen. */
  heightAt(width: number): number {
    const copy = this.element.cloneNode(true) as HTMLElement;
    copy.style.cssText = `position:absolute;visibility:hidden;height:auto;width:${width}px`;
    document.body.append(copy);
    const height = copy.offsetHeight;
    copy.remove();
    return Math.min(height, MOST_HEIGHT);
  }

  /** Whether the content is taller than the space it has. */
  scrolls(): boolean {
    return this.element.scrollHeight > this.element.clientHeight;
  }
}

/** Kinds whose second text has lines of its own. */
const BELOW: readonly LineKind[] = ["problem", "stayed", "kept"];

/** Whether a new kind starts a new block. Parts and problems stay with the line above them. */
function starts(line: Line): boolean {
  return line.kind === "step" || line.kind === "kept" || line.kind === "note";
}

/** The tooltip has what the line has no room for: why a step ran, and which steps did not. */
function lineElement(line: Line): HTMLElement {
  const row = part("div", `memsweep-line memsweep-${line.kind}`);
  row.title = line.detail === "" ? line.label : `${line.label}: ${line.detail}`;
  row.append(part("div", "memsweep-what", line.kind === "kept" ? `Kept: ${line.label}` : line.label));
  const value = part("div", "memsweep-value", line.value);
  const detail = part("div", "memsweep-detail", line.detail);
  if (line.kind === "total") row.append(detail, value);
  else if (line.kind !== "note") row.append(value);
  if (line.detail !== "" && BELOW.includes(line.kind)) row.append(detail);
  return row;
}

function part(tag: string, className: string, text = ""): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function ensureStyle(): void {
  if (document.getElementById(STYLE_ID) !== null) return;
  const style = document.createElement("style");
  style.id = STYLE_ID;
  style.textContent = STYLE;
  document.head.append(style);
}
