// Written by `npm run shapes` from schemas/memory-report.json, which is made from the Rust types:
// edit those, not this file. Long because it holds all of its schema.

/**
 * A number of bytes. JSON carries the plain number; people see binary units.
 */
export type Bytes = number;
/**
 * A source of the driver's view.
 */
export type Source = "nvml" | "sysfs" | "torch" | "other";

/**
 * A reading with its lines, and the models that the host manages.
 */
export interface MemoryReport {
  /**
   * The reading as its text shows it.
   */
  lines: ReadingLine[];
  /**
   * The models that the host manages.
   */
  models: NamedModel[];
  /**
   * The reading.
   */
  reading: Reading;
  /**
   * Version of this shape.
   */
  schema: number;
}
/**
 * One line of a reading for people.
 */
export interface ReadingLine {
  /**
   * Its size; `null` when unknown.
   */
  bytes: Bytes | null;
  /**
   * What it is.
   */
  name: string;
  /**
   * It is part of the nearest line above that is not a part itself.
   */
  part: boolean;
}
/**
 * A model and what to call it.
 */
export interface NamedModel {
  /**
   * Bytes it takes on that device, according to its manager.
   */
  bytes: Bytes | null;
  /**
   * The device it is loaded on.
   */
  device: string;
  /**
   * The files it was loaded from. Empty where that is not known.
   */
  files: string[];
  /**
   * It is on that device now.
   */
  loaded: boolean;
  /**
   * Its class.
   */
  name: string;
  /**
   * What it is in a workflow: diffusion model, text encoder, VAE, ControlNet.
   */
  part: string | null;
  /**
   * Its file and part, or its class, and its device.
   */
  what: string;
}
/**
 * The numbers at one instant.
 */
export interface Reading {
  /**
   * One row per accelerator that a driver or torch reports.
   */
  devices: DeviceMemory[];
  /**
   * The machine, or the container that limits us.
   */
  machine: MachineMemory;
  /**
   * This process.
   */
  process: ProcessMemory;
  /**
   * 2 when written by this version.
   */
  schema: number;
  /**
   * Seconds on a monotonic clock of the reader, for durations only.
   */
  seconds: number | null;
}
/**
 * Memory of one accelerator.
 */
export interface DeviceMemory {
  /**
   * What ComfyUI says.
   */
  comfyui: ComfyView;
  /**
   * What the driver says.
   */
  driver: DriverView;
  /**
   * Torch's name where torch knows the device (`cuda:0`), else the driver's (`amdgpu:card0`).
   */
  id: string;
  /**
   * Product name.
   */
  name: string | null;
  /**
   * PCI bus address (`0000:01:00.0`, lower case), which joins the driver's and torch's views.
   */
  pci: string | null;
  /**
   * Where the driver's view came from.
   */
  source: Source | null;
  /**
   * What torch says.
   */
  torch: TorchView;
  /**
   * Memory of the device.
   */
  total: Bytes | null;
  /**
   * The device's UUID, where it has one, without the driver's prefix. Joins the two views where torch reports no address; absent in the JSON where it is unknown.
   */
  uuid?: string | null;
}
/**
 * ComfyUI's view of a device.
 */
export interface ComfyView {
  /**
   * Resident pages of models that ComfyUI pages by itself; torch does not count them.
   */
  paged: Bytes | null;
}
/**
 * The driver's view of a device. `T` is a number of bytes, or its change.
 */
export interface DriverView {
  /**
   * Used by other processes.
   */
  others: Bytes | null;
  /**
   * Used by this process.
   */
  process: Bytes | null;
  /**
   * Used by all programs.
   */
  used: Bytes | null;
}
/**
 * Torch's view of a device.
 */
export interface TorchView {
  /**
   * In live tensors (`torch.cuda.memory_allocated`).
   */
  allocated: Bytes | null;
  /**
   * Held by torch's allocator, tensors included (`memory_reserved`).
   */
  reserved: Bytes | null;
}
/**
 * RAM of the machine, and the limits that apply to us.
 */
export interface MachineMemory {
  /**
   * RAM available without swapping. Linux `MemAvailable`. Other programs change it.
   */
  available: Bytes | null;
  /**
   * The tightest memory limit of our cgroup and its ancestors.
   */
  cgroup_limit: Bytes | null;
  /**
   * Memory charged to the cgroup that has that limit. Includes its page cache.
   */
  cgroup_used: Bytes | null;
  /**
   * Windows system commit limit.
   */
  commit_limit: Bytes | null;
  /**
   * Windows system commit charge.
   */
  commit_used: Bytes | null;
  /**
   * Share of the last 10 s in which some task waited for memory, in percent (PSI `some avg10`).
   */
  pressure_percent: number | null;
  /**
   * Free swap.
   */
  swap_free: Bytes | null;
  /**
   * Size of swap or page files.
   */
  swap_total: Bytes | null;
  /**
   * RAM of the machine. Linux `MemTotal`.
   */
  total: Bytes | null;
}
/**
 * RAM of this process.
 */
export interface ProcessMemory {
  /**
   * Private bytes without a file behind them: heaps and stacks. Linux `RssAnon`.
   */
  anonymous: Bytes | null;
  /**
   * Windows commit charge (`PrivateUsage`): what runs out first there.
   */
  commit: Bytes | null;
  /**
   * Resident pages of mapped files, such as model weights. Linux `RssFile`.
   */
  file_backed: Bytes | null;
  /**
   * macOS `phys_footprint`: what the system's own tools show as a process's memory.
   */
  footprint: Bytes | null;
  /**
   * Free bytes the C heap keeps for itself. glibc `mallinfo2().fordblks`: an upper bound of what a trim can return, since pages already given back are still counted.
   */
  heap_slack: Bytes | null;
  /**
   * Page-locked bytes (`mlock`, registered host memory). Linux `VmLck` + `VmPin`.
   */
  page_locked: Bytes | null;
  /**
   * Bytes whose pages MemSweep moved to disk.
   */
  parked: Bytes | null;
  /**
   * Bytes of RAM mapped into the process now. Linux `VmRSS`, Windows working set. Includes file pages the kernel can drop at any time: not "used" in the sense of "lost".
   */
  resident: Bytes | null;
  /**
   * Resident shared memory. Linux `RssShmem`.
   */
  shared: Bytes | null;
  /**
   * Anonymous bytes in swap. Linux `VmSwap`.
   */
  swapped: Bytes | null;
}
