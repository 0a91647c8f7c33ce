// Written by `npm run shapes` from schemas/memory-report.json and schemas/report.json, which are
// made from the Rust types: edit those, not this file. Long because it holds all of its schemas.

/**
 * What a node shows.
 */
export type Shown = MemoryReport | Report;
/**
 * A number of bytes. JSON carries the plain number; people see binary units.
 */
export type Bytes = number;
/**
 * A remark that belongs to no step.
 */
export type Note =
  | {
      kind: "parking_off";
      /**
       * The level that the sweep stops at instead.
       */
      level: Level;
    }
  | {
      /**
       * Blocks of memory.
       */
      blocks: number;
      /**
       * Their size.
       */
      bytes: Bytes;
      kind: "protected";
    }
  | {
      kind: "no_target";
    }
  | {
      kind: "executor_unknown";
      /**
       * What did not match.
       */
      reason: string;
    }
  | {
      kind: "no_cache";
    }
  | {
      kind: "not_destroyed_executor_unknown";
      /**
       * What did not match.
       */
      reason: string;
    }
  | {
      kind: "not_destroyed_any_output";
      /**
       * That node.
       */
      node: string;
    }
  | {
      /**
       * That output.
       */
      entry: string;
      kind: "not_destroyed_unreadable";
    }
  | {
      kind: "no_manager";
    }
  | {
      kind: "not_reached";
    }
  | {
      /**
       * The user cancelled it.
       */
      cancelled: boolean;
      kind: "after_failure";
    }
  | {
      /**
       * Its name.
       */
      input: string;
      kind: "input_is_none";
    }
  | {
      /**
       * What is wrong.
       */
      error: string;
      kind: "parking_misconfigured";
    }
  | {
      /**
       * The error.
       */
      error: string;
      kind: "facts_unknown";
    }
  | {
      /**
       * Reached only from there, at least.
       */
      bytes: Bytes;
      /**
       * How much of it is on each device.
       */
      devices?: {
        [k: string]: Bytes;
      };
      kind: "kept_by_last_error";
      /**
       * Names that delete it.
       */
      names: string[];
      /**
       * IPython keeps it in more places.
       */
      shell: boolean;
    }
  | {
      /**
       * Reached only from there, at least.
       */
      bytes: Bytes;
      /**
       * How much of it is on each device.
       */
      devices?: {
        [k: string]: Bytes;
      };
      kind: "kept_by_handled_error";
      /**
       * The thread; `null` for the one that sweeps.
       */
      thread: string | null;
    }
  | {
      /**
       * Their size at most, where known.
       */
      bytes: Bytes;
      /**
       * How many things.
       */
      count: number;
      kind: "not_listed";
    }
  | {
      kind: "other";
      /**
       * In words.
       */
      text: string;
    };
/**
 * The ladder. Each level includes those before it.
 */
export type Level = "trim" | "collect" | "unload" | "evict" | "park" | "destroy";
/**
 * A source of the driver's view.
 */
export type Source = "nvml" | "sysfs" | "torch" | "other";
/**
 * What holds memory that is still in use.
 */
export type Holder =
  | {
      /**
       * The device.
       */
      device: string;
      kind: "unexplained";
    }
  | {
      /**
       * The device.
       */
      device: string;
      kind: "outside_torch";
    }
  | {
      /**
       * The device.
       */
      device: string;
      kind: "output";
      /**
       * The nodes it is of.
       */
      what: string;
    }
  | {
      /**
       * The device.
       */
      device: string;
      kind: "error";
    }
  | {
      /**
       * The device.
       */
      device: string;
      kind: "connected";
    }
  | {
      /**
       * What it shares with others counts in full: it could not be told apart, or not quickly.
       */
      at_most: boolean;
      kind: "child";
      /**
       * What the system calls it.
       */
      name: string;
      /**
       * Its number.
       */
      pid: number;
    }
  | {
      /**
       * How many.
       */
      count: number;
      kind: "more_children";
    }
  | {
      kind: "graph";
      /**
       * The nodes of the cached output that has it; `null` for what is connected.
       */
      output: string | null;
    }
  | {
      kind: "shared_memory";
    }
  | {
      kind: "mapped_files";
    };
/**
 * A signed difference of two measurements, in bytes. Positive means given back.
 */
export type Change = number;
/**
 * Which number stands for a place.
 */
export type Measure =
  "charged" | "private" | "resident" | "driver_process" | "held" | "tensors" | "all_programs";
/**
 * When a sweep has done enough. A goal whose number cannot be read never counts as reached.
 */
export type Goal =
  | {
      ram_available: Bytes;
    }
  | {
      process_anonymous: Bytes;
    }
  | {
      device_free: {
        /**
         * Wanted free bytes.
         */
        bytes: Bytes;
        /**
         * Device id as in the reading.
         */
        device: string;
      };
    };
/**
 * Why something stays.
 */
export type Keep =
  | {
      kind: "connected";
    }
  | {
      kind: "needed_by";
      /**
       * That node.
       */
      node: string;
    }
  | {
      /**
       * Who, in words.
       */
      by: string;
      kind: "in_use";
    }
  | {
      kind: "output_node";
    }
  | {
      kind: "feeds_output_node";
      /**
       * That node.
       */
      node: string;
    }
  | {
      kind: "loop_result";
      /**
       * That node.
       */
      node: string;
    }
  | {
      kind: "nothing_to_gain";
    }
  | {
      kind: "unreadable";
    }
  | {
      kind: "unrepeatable";
    }
  | {
      kind: "unreadable_node";
      /**
       * That node.
       */
      node: string;
    };
/**
 * One step of a plan. Carried out by the host, never by the core.
 */
export type Action =
  | {
      /**
       * Entry numbers of the inventory.
       */
      entries: number[];
      kind: "evict";
    }
  | {
      kind: "collect";
    }
  | {
      kind: "synchronize";
    }
  | {
      kind: "unload";
      /**
       * Model number of the inventory.
       */
      model: number;
      /**
       * For people: its file and part, or its class where no file is known.
       */
      name: string;
    }
  | {
      kind: "empty_device_cache";
    }
  | {
      kind: "empty_host_cache";
    }
  | {
      /**
       * Absolute paths.
       */
      files: string[];
      kind: "drop_file_cache";
    }
  | {
      /**
       * Storages of the inventory that stay in memory: connected, or needed by a node to run.
       */
      keep: number[];
      kind: "park";
      /**
       * How far it goes.
       */
      limits: ParkLimits;
    }
  | {
      /**
       * Storages of the inventory that stay.
       */
      keep: number[];
      kind: "destroy";
    }
  | {
      kind: "trim_heap";
    }
  | {
      kind: "system_wide";
    };
/**
 * Why a step is in the plan.
 */
export type Release =
  | {
      kind: "part_of_level";
      /**
       * The level that brings it in.
       */
      level: Level;
    }
  | {
      /**
       * Names of the entries.
       */
      entries: string[];
      kind: "no_reader_left";
    }
  | {
      kind: "not_needed";
    }
  | {
      /**
       * That device.
       */
      device: string;
      kind: "not_needed_and_stays_on";
    }
  | {
      kind: "after_release";
    }
  | {
      kind: "maybe_unmapped";
    }
  | {
      kind: "held_and_idle";
    }
  | {
      kind: "held_and_not_needed";
    }
  | {
      kind: "system_wide";
    };
/**
 * What came of one action. A failed step is data, never an exception.
 */
export type Outcome =
  | {
      /**
       * What the call itself says it released, where it says anything.
       */
      claimed: Bytes | null;
      /**
       * What was done, for people.
       */
      detail: string | null;
      kind: "done";
    }
  | {
      /**
       * What was on disk already and was not written again.
       */
      already: Bytes;
      /**
       * What moved to disk in this step.
       */
      bytes: Bytes;
      /**
       * Where the spill files are.
       */
      folder: string | null;
      /**
       * The most that was in the page cache at once on its way to disk: the memory that parking itself takes. The process is not charged for it; its control group is, until it is written.
       */
      in_flight: Bytes | null;
      /**
       * How much of all that is parked, in this step and earlier ones, is in memory again.
       */
      in_memory: Bytes | null;
      kind: "parked";
      /**
       * What stayed, by reason.
       */
      refused: Refused[];
      /**
       * In how many pieces.
       */
      regions: number;
      /**
       * Why it ended early.
       */
      stopped: WhyStopped | null;
    }
  | {
      kind: "destroyed";
      /**
       * Tensors that lost their memory, by who held them.
       */
      owners: Owner[];
      /**
       * What stayed, by reason.
       */
      refused: Refused[];
    }
  | (WhyNothing & {
      kind: "nothing_to_do";
    })
  | (WhySkip & {
      kind: "skipped";
    })
  | (WhyMissing & {
      kind: "unsupported";
    })
  | {
      /**
       * The error.
       */
      error: string;
      kind: "failed";
    }
  | {
      kind: "cancelled";
    };
/**
 * Why a block of memory stays.
 */
export type Refusal =
  | {
      kind: "in_use";
    }
  | {
      kind: "in_use_meanwhile";
    }
  | {
      kind: "written_meanwhile";
    }
  | {
      kind: "unwatched";
    }
  | {
      kind: "hardly_in_memory";
    }
  | {
      kind: "byte_limit";
    }
  | {
      kind: "disk_limit";
    }
  | {
      kind: "mapping_limit";
    }
  | {
      kind: "smaller_than_page";
    }
  | {
      kind: "not_mapped";
    }
  | {
      kind: "mapped_file";
    }
  | {
      kind: "shared";
    }
  | {
      kind: "read_only";
    }
  | {
      kind: "page_locked";
    }
  | {
      kind: "page_locked_by_driver";
    }
  | {
      kind: "page_lock_unknown";
    }
  | {
      kind: "huge_pages";
    }
  | {
      kind: "special_mapping";
    }
  | {
      kind: "undescribed";
    }
  | {
      kind: "not_of_the_heap";
    }
  | {
      kind: "another_library";
    }
  | {
      kind: "cuda_graph";
    }
  | {
      kind: "arrays";
    }
  | {
      kind: "python_class";
    }
  | {
      kind: "not_torchs";
    }
  | {
      kind: "weak_references";
    }
  | {
      kind: "used_by_torch";
    }
  | {
      kind: "class_not_set";
    }
  | {
      kind: "other";
      /**
       * In words.
       */
      text: string;
    };
/**
 * Why parking ended before everything chosen had moved.
 */
export type Stopped =
  | {
      kind: "time";
      /**
       * The limit.
       */
      seconds: number;
    }
  | {
      kind: "cancelled";
    }
  | {
      kind: "kept_in_memory";
    }
  | {
      kind: "other";
      /**
       * In words.
       */
      text: string;
    };
/**
 * Why there was nothing to do.
 */
export type Nothing =
  | {
      kind: "no_device";
    }
  | {
      kind: "capturing";
    }
  | {
      kind: "no_torch";
    }
  | {
      kind: "no_tensor";
    }
  | {
      kind: "no_idle_block";
    }
  | {
      kind: "entries_gone";
    }
  | {
      kind: "not_loaded";
    }
  | {
      /**
       * Who, in words.
       */
      by: string;
      kind: "begun_to_use";
    }
  | {
      kind: "heap_in_use";
    }
  | {
      kind: "no_file";
    }
  | {
      kind: "other";
      /**
       * In words.
       */
      text: string;
    };
/**
 * Why a step was left out.
 */
export type Skip =
  | {
      kind: "dry_run";
    }
  | {
      kind: "goal_met";
    }
  | {
      kind: "nothing_released";
    }
  | {
      kind: "nothing_last_turn";
    }
  | {
      kind: "sweep_ended";
    }
  | {
      kind: "other";
      /**
       * In words.
       */
      text: string;
    };
/**
 * What a machine, a library or a program lacks for a step.
 */
export type Missing =
  | {
      kind: "no_host";
    }
  | {
      kind: "not_this_program";
    }
  | {
      kind: "no_parking";
    }
  | {
      kind: "no_models";
    }
  | {
      kind: "no_torch_call";
    }
  | {
      kind: "parking_needs_linux";
    }
  | {
      kind: "allocator";
      /**
       * Its name.
       */
      name: string;
    }
  | {
      kind: "not_of_the_heap";
    }
  | {
      kind: "page_lock_unknown";
    }
  | {
      kind: "mappings_unknown";
    }
  | {
      /**
       * How many it has.
       */
      count: number;
      kind: "mappings_used_up";
      /**
       * How many it may have.
       */
      limit: number;
    }
  | {
      kind: "spill_files_unknown";
    }
  | {
      kind: "no_trim";
    }
  | {
      kind: "no_heap_call";
    }
  | {
      kind: "no_file_cache";
    }
  | {
      kind: "system_cache_needs_linux";
    }
  | {
      kind: "working_set_needs_windows";
    }
  | {
      kind: "other";
      /**
       * In words: what is missing, and what would help.
       */
      text: string;
    };
/**
 * The outcome of a step held against the measurement.
 */
export type Verdict =
  "confirmed" | "nothing_seen" | "claim_not_seen" | "unmeasured" | "outside_process" | "not_run" | "failed";

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
   * What people should know: memory that errors keep.
   */
  notes?: WhyNote[];
  /**
   * The reading.
   */
  reading: Reading;
  /**
   * What holds memory, as far as it is known.
   */
  rest?: Rest[];
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
   * RAM that its manager has page-locked for it. Absent where that is not known.
   */
  pinned?: Bytes | null;
  /**
   * Its file and part, or its class, and its device.
   */
  what: string;
}
export interface WhyNote {
  /**
   * For programs.
   */
  because: Note;
  /**
   * The same in words, in English.
   */
  reason: string;
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
   * In torch's memory, of the models that ComfyUI has loaded there.
   */
  models: Bytes | null;
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
/**
 * Memory that is still in use, and what holds it.
 */
export interface Rest {
  /**
   * For programs.
   */
  because: Holder;
  /**
   * Its size where known.
   */
  bytes: Bytes | null;
  /**
   * The same in words, in English.
   */
  reason: string;
}
/**
 * The whole story of one sweep.
 */
export interface Report {
  /**
   * The reading after.
   */
  after: Reading;
  /**
   * The reading before.
   */
  before: Reading;
  /**
   * The user cancelled during the sweep.
   */
  cancelled: boolean;
  /**
   * Nothing was released on purpose.
   */
  dry_run: boolean;
  /**
   * Measured difference of the two readings.
   */
  freed: Freed;
  /**
   * The goal, if one was set.
   */
  goal: Goal | null;
  /**
   * Whether it holds now; `null` without a goal or when its number is unknown.
   */
  goal_met: boolean | null;
  /**
   * The answer in a few numbers, for everybody who shows one. Empty in reports of 0.1.
   */
  headline: Headline;
  /**
   * What stayed, and why.
   */
  kept: KeptRow[];
  /**
   * The level carried out.
   */
  level: Level;
  /**
   * What people should know.
   */
  notes: WhyNote[];
  /**
   * The level asked for.
   */
  requested_level: Level;
  /**
   * What holds memory that is still in use, as far as it is known. Absent in older reports.
   */
  rest?: Rest[];
  /**
   * One row per step of the plan.
   */
  rows: Row[];
  /**
   * Version of this shape.
   */
  schema: number;
  /**
   * The largest thing that was not freed, and what would free it. `null` where nothing large stayed, and in reports of 0.1.
   */
  stayed: Stayed | null;
  /**
   * How many sweeps this sums up: the turns of a node in a loop. What was given back is that of all turns, `before` is from the first, and all else is from the last.
   */
  turns?: number;
}
/**
 * Measured differences; positive means given back. `null` when either side is unknown.
 */
export interface Freed {
  /**
   * Per device.
   */
  devices: DeviceFreed[];
  /**
   * Fall of the process's anonymous memory: what the program really gave back.
   */
  process_anonymous: Change | null;
  /**
   * Windows and macOS: fall of what the system charges to it (commit, `phys_footprint`), which is what the program gave back there. Its resident memory also falls when pages are only moved out of it, and does not show all that was freed.
   */
  process_charged: Change | null;
  /**
   * Fall of its resident memory. Includes file pages, which the kernel could take anyway.
   */
  process_resident: Change | null;
}
/**
 * Measured differences on one device.
 */
export interface DeviceFreed {
  /**
   * Falls of the numbers that ComfyUI reports.
   */
  comfyui: ComfyView2;
  /**
   * Falls of the numbers that the driver reports.
   */
  driver: DriverView2;
  /**
   * Device id.
   */
  id: string;
  /**
   * Which number that is. `null` where it is unknown, and in reports of 0.1.
   */
  measure: Measure | null;
  /**
   * What this process gave back: what the driver says of it, else what torch and ComfyUI hold. Only where neither is known in both readings, the device's "used", which other programs change too.
   */
  ours: Change | null;
  /**
   * Falls of the numbers that torch reports.
   */
  torch: TorchView2;
}
/**
 * ComfyUI's view of a device.
 */
export interface ComfyView2 {
  /**
   * In torch's memory, of the models that ComfyUI has loaded there.
   */
  models: Change | null;
  /**
   * Resident pages of models that ComfyUI pages by itself; torch does not count them.
   */
  paged: Change | null;
}
/**
 * The driver's view of a device. `T` is a number of bytes, or its change.
 */
export interface DriverView2 {
  /**
   * Used by other processes.
   */
  others: Change | null;
  /**
   * Used by this process.
   */
  process: Change | null;
  /**
   * Used by all programs.
   */
  used: Change | null;
}
/**
 * Torch's view of a device.
 */
export interface TorchView2 {
  /**
   * In live tensors (`torch.cuda.memory_allocated`).
   */
  allocated: Change | null;
  /**
   * Held by torch's allocator, tensors included (`memory_reserved`).
   */
  reserved: Change | null;
}
/**
 * The answer of a sweep in a few numbers.
 */
export interface Headline {
  /**
   * Steps that failed.
   */
  failed_steps: number;
  /**
   * The process first, then every device that this process uses. A place whose number is unknown is left out.
   */
  freed: Gave[];
  /**
   * What moved to disk: it left RAM, and its owner still has it.
   */
  parked: Bytes;
  /**
   * And after.
   */
  process_after: Bytes | null;
  /**
   * What the process's number was before.
   */
  process_before: Bytes | null;
  /**
   * From the first reading to the last.
   */
  seconds: number | null;
}
/**
 * What one place gave back; positive means given back.
 */
export interface Gave {
  /**
   * Its fall.
   */
  bytes: Change;
  /**
   * The number that says so.
   */
  measure: Measure;
  /**
   * `process`, or the id of a device.
   */
  place: string;
}
/**
 * Something that stayed.
 */
export interface KeptRow {
  /**
   * For programs.
   */
  because: Keep;
  /**
   * Its size where known.
   */
  bytes: Bytes | null;
  /**
   * The same in words, in English.
   */
  reason: string;
  /**
   * What it is.
   */
  what: string;
}
/**
 * One step and what came of it.
 */
export interface Row {
  /**
   * What was to be done.
   */
  action: Action;
  /**
   * For programs.
   */
  because: Release;
  /**
   * What the plan expected, by counting storages. Memory shared with objects we cannot see stays, so this is an upper bound.
   */
  estimated: Bytes | null;
  /**
   * The same in one number for each place that moved. Empty when nothing was measured, and in reports of 0.1.
   */
  gave: Gave[];
  /**
   * What the readings around this step say. Memory freed here may reach the system only at a later step (heap, device cache), so look at the whole report too.
   */
  measured: Freed;
  /**
   * What came of it; a success holds what the call itself claims.
   */
  outcome: Outcome;
  /**
   * The same in words, in English.
   */
  reason: string;
  /**
   * Time from reading to reading.
   */
  seconds: number | null;
  /**
   * The outcome held against the measurement.
   */
  verdict: Verdict;
  /**
   * For people: what it concerns.
   */
  what: string;
}
/**
 * How far parking may go.
 */
export interface ParkLimits {
  /**
   * The most that one sweep moves; `null` means as much as the disk allows.
   */
  bytes: Bytes | null;
  /**
   * Where the spill files go; `null` leaves the choice to the host.
   */
  folder: string | null;
  /**
   * After this many seconds nothing more is written; what was written by then still moves.
   */
  seconds: number;
}
/**
 * Blocks that stayed for one reason.
 */
export interface Refused {
  /**
   * For programs.
   */
  because: Refusal;
  /**
   * How many.
   */
  blocks: number;
  /**
   * Their size.
   */
  bytes: Bytes;
  /**
   * The same in words, in English.
   */
  reason: string;
}
export interface WhyStopped {
  /**
   * For programs.
   */
  because: Stopped;
  /**
   * The same in words, in English.
   */
  reason: string;
}
/**
 * An owner of tensors.
 */
export interface Owner {
  /**
   * Their memory.
   */
  bytes: Bytes;
  /**
   * For people: a module's global, a class, or unknown.
   */
  name: string;
  /**
   * How many tensors.
   */
  tensors: number;
}
export interface WhyNothing {
  /**
   * For programs.
   */
  because: Nothing;
  /**
   * The same in words, in English.
   */
  reason: string;
}
export interface WhySkip {
  /**
   * For programs.
   */
  because: Skip;
  /**
   * The same in words, in English.
   */
  reason: string;
}
export interface WhyMissing {
  /**
   * For programs.
   */
  because: Missing;
  /**
   * The same in words, in English.
   */
  reason: string;
}
/**
 * What a report says first, before its list.
 */
export interface Stayed {
  /**
   * What would free it, in words.
   */
  advice: string;
  /**
   * For programs.
   */
  because: Keep;
  /**
   * Its size.
   */
  bytes: Bytes;
  /**
   * The same in words, in English.
   */
  reason: string;
  /**
   * What it is.
   */
  what: string;
}
