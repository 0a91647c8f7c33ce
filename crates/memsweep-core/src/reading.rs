//! The numbers at one instant: process, machine and devices.
//!
//! Every field that could not be read is `None`, never 0. A reading carries no judgement and no
//! percentage: the balance sheet adds it up, the plan and the report compare two of them.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
pub use crate::device::{ComfyView, DeviceMemory, DriverView, Source, TorchView};

/// Version of the JSON shape of a reading; see `docs/report-format.md`.
pub const SCHEMA: u32 = 2;

/// The numbers at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Reading {
    /// [`SCHEMA`] when written by this version.
    pub schema: u32,
    /// Seconds on a monotonic clock of the reader, for durations only.
    pub seconds: Option<f64>,
    /// This process.
    pub process: ProcessMemory,
    /// The machine, or the container that limits us.
    pub machine: MachineMemory,
    /// One row per accelerator that a driver or torch reports.
    pub devices: Vec<DeviceMemory>,
}

/// RAM of this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ProcessMemory {
    /// Bytes of RAM mapped into the process now. Linux `VmRSS`, Windows working set. Includes
    /// file pages the kernel can drop at any time: not "used" in the sense of "lost".
    pub resident: Option<Bytes>,
    /// Private bytes without a file behind them: heaps and stacks. Linux `RssAnon`.
    pub anonymous: Option<Bytes>,
    /// Resident pages of mapped files, such as model weights. Linux `RssFile`.
    pub file_backed: Option<Bytes>,
    /// Resident shared memory. Linux `RssShmem`.
    pub shared: Option<Bytes>,
    /// Anonymous bytes in swap. Linux `VmSwap`.
    pub swapped: Option<Bytes>,
    /// Page-locked bytes (`mlock`, registered host memory). Linux `VmLck` + `VmPin`.
    pub page_locked: Option<Bytes>,
    /// Free bytes the C heap keeps for itself. glibc `mallinfo2().fordblks`: an upper bound of
    /// what a trim can return, since pages already given back are still counted.
    pub heap_slack: Option<Bytes>,
    /// Bytes whose pages MemSweep moved to disk.
    pub parked: Option<Bytes>,
    /// Windows commit charge (`PrivateUsage`): what runs out first there.
    pub commit: Option<Bytes>,
    /// macOS `phys_footprint`: what the system's own tools show as a process's memory.
    pub footprint: Option<Bytes>,
}

impl ProcessMemory {
    /// What the system charges to the process, where it does so by a measure other than pages in
    /// memory.
    #[must_use]
    pub fn charged(&self) -> Option<Bytes> {
        self.commit.or(self.footprint)
    }
}

/// RAM of the machine, and the limits that apply to us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MachineMemory {
    /// RAM of the machine. Linux `MemTotal`.
    pub total: Option<Bytes>,
    /// RAM available without swapping. Linux `MemAvailable`. Other programs change it.
    pub available: Option<Bytes>,
    /// Size of swap or page files.
    pub swap_total: Option<Bytes>,
    /// Free swap.
    pub swap_free: Option<Bytes>,
    /// The tightest memory limit of our cgroup and its ancestors.
    pub cgroup_limit: Option<Bytes>,
    /// Memory charged to the cgroup that has that limit. Includes its page cache.
    pub cgroup_used: Option<Bytes>,
    /// Share of the last 10 s in which some task waited for memory, in percent (PSI `some avg10`).
    pub pressure_percent: Option<f64>,
    /// Windows system commit charge.
    pub commit_used: Option<Bytes>,
    /// Windows system commit limit.
    pub commit_limit: Option<Bytes>,
}

impl Reading {
    /// The device with this id.
    #[must_use]
    pub fn device(&self, id: &str) -> Option<&DeviceMemory> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// RAM we may still take: the machine's, or what our cgroup leaves, whichever is less.
    #[must_use]
    pub fn ram_available(&self) -> Option<Bytes> {
        let in_cgroup = match (self.machine.cgroup_limit, self.machine.cgroup_used) {
            (Some(limit), Some(used)) => Some(Bytes(limit.0.saturating_sub(used.0))),
            _ => None,
        };
        match (self.machine.available, in_cgroup) {
            (Some(machine), Some(cgroup)) => Some(machine.min(cgroup)),
            (machine, cgroup) => machine.or(cgroup),
        }
    }
}
