// The part of ComfyUI's front-end that we use, as far as we use it. The build replaces both names
// with the relative paths ComfyUI serves them at, so that the pack's folder may have any name.

declare module "comfyui/app" {
  /** A widget made with `addDOMWidget`. */
  export interface DomWidget {
    name: string;
    /** False: left out of the saved workflow. */
    serialize?: boolean;
  }

  /** A node on the canvas. */
  export interface ComfyNode {
    id: number | string;
    comfyClass?: string;
    size: [number, number];
    /** The inside of a node that stands for a subgraph. */
    subgraph?: Graph;
    addDOMWidget(
      name: string,
      type: string,
      element: HTMLElement,
      options: Record<string, unknown>,
    ): DomWidget;
    computeSize(): [number, number];
    setSize(size: [number, number]): void;
    onExecuted?: (output: unknown) => void;
    serialize(): Saved;
    onSerialize?: (saved: Saved) => void;
  }

  /** A node as a workflow file has it. */
  export interface Saved {
    size?: unknown;
    widgets_values?: unknown;
    widgets_values_named?: unknown;
  }

  /** A graph, or the inside of a subgraph. */
  export interface Graph {
    getNodeById(id: number | string): ComfyNode | null | undefined;
    subgraphs?: Map<string, Graph>;
  }

  /** A row of ComfyUI's settings. Its page saves what was changed in the user's file. */
  export interface Setting {
    id: string;
    /** Its place: the extension, the section, the row. */
    category: [string, string, string];
    name: string;
    tooltip: string;
    type: "combo";
    options: string[];
    defaultValue: string;
  }

  /** What an extension registers. Every version ignores fields it does not know. */
  export interface Extension {
    name: string;
    settings?: Setting[];
    nodeCreated?(node: ComfyNode): void;
    onNodeOutputsUpdated?(outputs: Record<string, unknown>): void;
  }

  export const app: {
    registerExtension(extension: Extension): void;
    graph?: Graph;
    rootGraph?: Graph;
    canvas?: {
      processMouseWheel?(event: WheelEvent): void;
      setDirty?(foreground: boolean, background?: boolean): void;
    };
  };
}

declare module "comfyui/api" {
  export const api: EventTarget;
}
