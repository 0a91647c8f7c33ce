// Written by `npm run shapes` from schemas/report.json, which is made from the Rust types:
// edit those, not this file. Long because it holds all of its schema.

/**
 * A number of bytes. JSON carries the plain number; people see binary units.
 */
export type Bytes = number;
/**
 * A signed difference of two measurements, in bytes. Positive means given back.
 */
export type Change = number;
/**
 * Which number speaks for a place.
 */
export type Measure =
  "charged" | "private" | "resident" | "driver_process" | "held" | "tensors" | "all_programs";
/**
 * When a sweep has done enough. A value that cannot be read never counts as reached.
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
 * The ladder. Each level includes those before it.
 */
export type Level = "trim" | "collect" | "unload" | "evict" | "park" | "destroy";
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
       * For people: the model's class name.
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
      kind: "leftover";
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
       * What lay on disk before and was not written again.
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
       * What of it was in the page cache at most at once, on its way: what parking itself takes. The process is not charged for it; its control group is, until it is written.
       */
      in_flight: Bytes | null;
      /**
       * Of all that lies on disk, from this step and earlier ones, what is in memory again.
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
      stopped: string | null;
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
  | {
      kind: "nothing_to_do";
      /**
       * Why.
       */
      reason: string;
    }
  | {
      kind: "skipped";
      /**
       * Why.
       */
      reason: string;
    }
  | {
      kind: "unsupported";
      /**
       * Why, and what would help.
       */
      reason: string;
    }
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
 * The outcome of a step held against the measurement.
 */
export type Verdict =
  "confirmed" | "nothing_seen" | "claim_not_seen" | "unmeasured" | "outside_process" | "not_run" | "failed";

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
  notes: string[];
  /**
   * The level asked for.
   */
  requested_level: Level;
  /**
   * One row per step of the plan.
   */
  rows: Row[];
  /**
   * Version of this shape.
   */
  schema: number;
}
/**
 * The numbers at one instant.
 */
export interface Reading {
  /**
   * One row per accelerator that a driver or torch told us about.
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
   * 1 when written by this version.
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
   * Resident pages of models that ComfyUI pages by itself; torch does not count them.
   */
  comfy_dynamic: Bytes | null;
  /**
   * Torch's name where torch knows the device (`cuda:0`), else the driver's (`amdgpu:card0`).
   */
  id: string;
  /**
   * Product name.
   */
  name: string | null;
  /**
   * Used by other processes, where the driver says.
   */
  others: Bytes | null;
  /**
   * PCI bus address (`0000:01:00.0`, lower case), which joins the driver's and torch's views.
   */
  pci: string | null;
  /**
   * Used by this process, as the driver says.
   */
  process: Bytes | null;
  /**
   * Where `used` came from: `nvml`, `sysfs`, `torch`.
   */
  source: string | null;
  /**
   * Bytes in live tensors (`torch.cuda.memory_allocated`).
   */
  torch_allocated: Bytes | null;
  /**
   * Bytes torch's allocator holds, tensors included (`memory_reserved`).
   */
  torch_reserved: Bytes | null;
  /**
   * Memory of the device.
   */
  total: Bytes | null;
  /**
   * Used by all programs, as the driver says.
   */
  used: Bytes | null;
  /**
   * The device's own number, where it has one, without the driver's prefix. Joins the two views where torch tells no address; absent in the JSON where it is unknown.
   */
  uuid?: string | null;
}
/**
 * RAM of the machine, and the limits that apply to us.
 */
export interface MachineMemory {
  /**
   * RAM that can be had without swapping. Linux `MemAvailable`. Other programs move it.
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
   * Windows commit charge (`PrivateUsage`): what fails first there.
   */
  commit: Bytes | null;
  /**
   * Bytes in CPU tensors that torch owns, each storage once. `null` unless asked for.
   */
  cpu_tensors: Bytes | null;
  /**
   * Resident pages of mapped files, such as model weights. Linux `RssFile`.
   */
  file_backed: Bytes | null;
  /**
   * macOS `phys_footprint`: what the system's own tools call memory of a process.
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
   * Windows and macOS: fall of what the system charges it with (commit, `phys_footprint`), which is what the program gave back there. Its resident memory also falls when pages are only moved out of it, and does not show all that was freed.
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
   * Fall of the pages that ComfyUI manages by itself.
   */
  comfy_dynamic: Change | null;
  /**
   * Device id.
   */
  id: string;
  /**
   * Which number that is. `null` where it is unknown, and in reports of 0.1.
   */
  measure: Measure | null;
  /**
   * What this process gave back: the driver's word on it, else what torch and ComfyUI hold. Only where neither is known in both readings, the device's "used", which other programs move too.
   */
  ours: Change | null;
  /**
   * Fall of this process's use, as the driver says.
   */
  process: Change | null;
  /**
   * Fall of the bytes in live tensors.
   */
  torch_allocated: Change | null;
  /**
   * Fall of the bytes torch's allocator holds.
   */
  torch_reserved: Change | null;
  /**
   * Fall of the driver's "used", other programs included.
   */
  used: Change | null;
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
   * The process first, then every device that this process uses. A place whose number is unknown is not there.
   */
  freed: Gave[];
  /**
   * What moved to disk: it left RAM, and is still somebody's.
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
   * Why, for programs.
   */
  because: Keep;
  /**
   * Its size where known.
   */
  bytes: Bytes | null;
  /**
   * Why, for people.
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
   * Why, for programs.
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
   * Why, for people.
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
   * After this many seconds nothing more is written; what was written until then still moves.
   */
  seconds: number;
}
/**
 * Blocks that stayed for one reason.
 */
export interface Refused {
  /**
   * How many.
   */
  blocks: number;
  /**
   * Their size.
   */
  bytes: Bytes;
  /**
   * Why.
   */
  reason: string;
}
/**
 * Somebody who held tensors.
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
