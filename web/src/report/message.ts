// What comfyui/service.py puts into a node's output around the shapes of the library.

/** The node's output, its report unpacked. */
export interface Output {
  memsweep: Message[];
}

export interface Message {
  /** The whole report for people; its first line is a summary. */
  text: string;
  /** JSON text of a report or of a reading; null when there was none. */
  report: string | null;
  /** The sweep ran when the prompt had ended. */
  at_end?: true;
  /** Only without a report. */
  problem?: Problem;
}

/** What happened and why, each a line for people. */
export interface Problem {
  what: string;
  why: string;
}
