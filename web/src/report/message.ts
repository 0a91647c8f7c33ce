// What comfyui/service.py puts into a node's output around the shapes of the library.

import type { Reading } from "../shapes/report.ts";
import type { ReadingLine } from "../shapes/reading-line.ts";

/** The node's output, its report unpacked. */
export interface Output {
  memsweep: Message[];
}

export interface Message {
  /** The whole report for people; its first line is a summary. */
  text: string;
  /** JSON text of a report or of a reading; null when there was none. */
  report: string | null;
  /** Only without a report. */
  problem?: Problem;
}

/** What happened and why, each a line for people. */
export interface Problem {
  what: string;
  why: string;
}

/** Memory Report's JSON. */
export interface MemoryReport {
  schema: number;
  reading: Reading;
  /** The reading as its text shows it. Absent in 0.1. */
  lines?: ReadingLine[];
  /** The models that ComfyUI manages. Absent in 0.1. */
  models?: LoadedModel[];
}

export interface LoadedModel {
  /** Its class. */
  name: string;
  /** What to call it, and its device. Absent in 0.1. */
  what?: string;
  device: string;
  bytes: number | null;
  loaded: boolean;
}
