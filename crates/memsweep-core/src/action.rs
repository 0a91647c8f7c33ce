//! What a sweep can do, and what came of it.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
pub use crate::destroy::{Destroyed, Owner};
use crate::park::{ParkLimits, Parked};
use crate::reason::{Missing, Nothing, Skip, Why};

/// One step of a plan. Carried out by the host, never by the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// Drop output-cache entries, by the numbers the inventory gave them.
    Evict {
        /// Entry numbers of the inventory.
        entries: Vec<u32>,
    },
    /// One run of the cycle collector.
    Collect,
    /// Wait for the devices that are in use. No plan has it any more: emptying a cache waits for what
    /// it frees, and waiting for a whole device spoils the CUDA graphs that are being captured on it.
    Synchronize,
    /// Take one managed model off its device.
    Unload {
        /// Model number of the inventory.
        model: u32,
        /// For people: its file and part, or its class where no file is known.
        name: String,
    },
    /// Return the free blocks of torch's device allocators.
    EmptyDeviceCache,
    /// Return the free blocks of torch's page-locked host allocator.
    EmptyHostCache,
    /// Drop the clean page cache of model files that nobody has mapped any more.
    DropFileCache {
        /// Absolute paths.
        files: Vec<String>,
    },
    /// Move the pages of memory that is held and not in use to disk.
    Park {
        /// Storages of the inventory that stay in memory: connected, or needed by a node to run.
        keep: Vec<u32>,
        /// How far it goes.
        limits: ParkLimits,
    },
    /// Take the memory of unprotected tensors; using one afterwards is an error.
    Destroy {
        /// Storages of the inventory that stay.
        keep: Vec<u32>,
    },
    /// Return the C heap's free pages.
    TrimHeap,
    /// `system_wide` only. Linux: `sync`, then drop the machine's page cache. Windows: page out our
    /// own working set. Never counted as freed.
    SystemWide,
}

/// A place where the effect of an action shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Memory of an accelerator.
    Device,
    /// RAM of this process.
    Process,
    /// Memory of the machine outside this process.
    Machine,
    /// Files.
    Disk,
}

impl Action {
    /// Where the effect shows, and nowhere else: RAM that falls while a device's cache is emptied
    /// says nothing about that cache. Empty for an action that gives nothing back.
    #[must_use]
    pub const fn acts_on(&self) -> &'static [Place] {
        match self {
            Self::Evict { .. } | Self::Collect | Self::Unload { .. } | Self::Destroy { .. } => {
                &[Place::Process, Place::Device]
            }
            Self::EmptyDeviceCache => &[Place::Device],
            Self::EmptyHostCache | Self::TrimHeap => &[Place::Process],
            Self::Park { .. } => &[Place::Process, Place::Disk],
            Self::DropFileCache { .. } | Self::SystemWide => &[Place::Machine],
            Self::Synchronize => &[],
        }
    }
}

/// What came of one action. A failed step is data, never an exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The call succeeded. That is all it says: the measurement decides what was freed.
    Done {
        /// What the call itself says it released, where it says anything.
        #[serde(default)]
        claimed: Option<Bytes>,
        /// What was done, for people.
        #[serde(default)]
        detail: Option<String>,
    },
    /// Memory was examined for parking, and moved where possible.
    Parked(Parked),
    /// Tensors lost their memory.
    Destroyed(Destroyed),
    /// There was nothing to do.
    NothingToDo(Why<Nothing>),
    /// Not carried out: dry run, goal met, or not needed.
    Skipped(Why<Skip>),
    /// This machine, library or version cannot do it.
    Unsupported(Why<Missing>),
    /// It was tried and failed; everything is as it was before the step.
    Failed {
        /// The error.
        error: String,
    },
    /// The user cancelled. The step did not begin, and none follows.
    Cancelled,
}

impl Outcome {
    /// What the step itself says it released; `None` when it did not succeed or says nothing.
    #[must_use]
    pub fn claimed(&self) -> Option<Bytes> {
        match self {
            Self::Done { claimed, .. } => *claimed,
            Self::Parked(parked) => Some(parked.bytes),
            Self::Destroyed(destroyed) => Some(destroyed.bytes()),
            _ => None,
        }
    }

    /// Whether something was carried out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Parked(_) | Self::Destroyed(_))
    }

    /// There was nothing to do.
    #[must_use]
    pub const fn nothing(reason: Nothing) -> Self {
        Self::NothingToDo(Why(reason))
    }

    /// It was left out.
    #[must_use]
    pub const fn skipped(reason: Skip) -> Self {
        Self::Skipped(Why(reason))
    }

    /// It cannot be done here.
    #[must_use]
    pub const fn unsupported(reason: Missing) -> Self {
        Self::Unsupported(Why(reason))
    }

    /// A success that claims nothing.
    #[must_use]
    pub const fn done() -> Self {
        Self::Done { claimed: None, detail: None }
    }
}
