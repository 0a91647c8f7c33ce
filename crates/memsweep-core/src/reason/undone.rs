//! Why a step was not carried out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Refusal, has_other};

/// Why there was nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Nothing {
    /// No accelerator has a context in this process.
    NoDevice,
    /// A CUDA graph is being captured: waiting for its device would spoil it.
    Capturing,
    /// The program has not loaded torch.
    NoTorch,
    /// No tensor is left to destroy.
    NoTensor,
    /// No block is left to park.
    NoIdleBlock,
    /// The cache dropped the entries by itself.
    EntriesGone,
    /// The model left its device by itself.
    NotLoaded,
    /// Somebody has begun to use it since the plan was made.
    BegunToUse {
        /// Who, in words.
        by: String,
    },
    /// The allocator had no free page.
    HeapInUse,
    /// No file was named.
    NoFile,
    /// Anything else.
    Other {
        /// In words.
        text: String,
    },
}

has_other!(Nothing);

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("no device is in use"),
            Self::Capturing => f.write_str("a CUDA graph is being captured"),
            Self::NoTorch => f.write_str("torch is not in use"),
            Self::NoTensor => f.write_str("no unneeded tensor of 1 MiB or more is left"),
            Self::NoIdleBlock => f.write_str("no block of 1 MiB or more is idle"),
            Self::EntriesGone => f.write_str("the entries were already gone"),
            Self::NotLoaded => f.write_str("it is not loaded any more"),
            Self::BegunToUse { by } => write!(f, "{by} began to use it"),
            Self::HeapInUse => f.write_str("the C heap had no free page to give back"),
            Self::NoFile => f.write_str("no file was named"),
            Self::Other { text } => f.write_str(text),
        }
    }
}

/// Why a step was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Skip {
    /// Nothing is released on purpose.
    DryRun,
    /// The goal was met before it came to this step.
    GoalMet,
    /// Another run of the collector could find nothing.
    NothingReleased,
    /// The collector gave nothing back in an earlier turn of the loop, and memory has not grown
    /// since.
    NothingLastTurn,
    /// The sweep ended before this step.
    SweepEnded,
    /// Anything else.
    Other {
        /// In words.
        text: String,
    },
}

has_other!(Skip);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DryRun => "dry run",
            Self::GoalMet => "the goal was already met",
            Self::NothingReleased => "nothing was released since the last collection",
            Self::NothingLastTurn => "it gave nothing back in an earlier turn of the loop",
            Self::SweepEnded => "the sweep had ended",
            Self::Other { text } => text,
        })
    }
}

/// What a machine, a library or a program lacks for a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Missing {
    /// The sweep has no host.
    NoHost,
    /// The program has nothing of this kind.
    NotThisProgram,
    /// The program offers nothing to park.
    NoParking,
    /// It takes a program that holds models or tensors.
    NoModels,
    /// This torch has no call for it.
    NoTorchCall,
    /// Only Linux can park.
    ParkingNeedsLinux,
    /// Blocks of this allocator cannot be parked.
    Allocator {
        /// Its name.
        name: String,
    },
    /// The blocks are not chunks of glibc's heap.
    NotOfTheHeap,
    /// A driver may have locked any page, and does not say which.
    PageLockUnknown,
    /// The kernel's list of this process's mappings, or its limit on them, cannot be read.
    MappingsUnknown,
    /// The process has nearly as many mappings as the kernel allows.
    MappingsUsedUp {
        /// How many it has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// Which memory is on disk already is known only to the process that this one was forked from.
    SpillFilesUnknown,
    /// This platform's heap cannot be trimmed.
    NoTrim,
    /// This C library's heap cannot be trimmed, and no other allocator was found.
    NoHeapCall,
    /// This platform cannot drop the cached pages of one file.
    NoFileCache,
    /// Only Linux can drop the machine's page cache.
    SystemCacheNeedsLinux,
    /// Only Windows has a working set that can be emptied.
    WorkingSetNeedsWindows,
    /// Anything else.
    Other {
        /// In words: what is missing, and what would help.
        text: String,
    },
}

has_other!(Missing);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "no host was given",
            Self::NotThisProgram => "nothing of this kind in this program",
            Self::NoParking => "this program cannot park",
            Self::NoModels => "only a program that holds models or tensors can do this",
            Self::NoTorchCall => "this torch has no call for it",
            Self::ParkingNeedsLinux => {
                "parking needs Linux; elsewhere the system pages idle memory out by itself"
            }
            Self::Allocator { name } => {
                return write!(
                    f,
                    "memory of {name} cannot be parked, but glibc's can: start without preloading"
                );
            }
            Self::NotOfTheHeap => "not in glibc's heap",
            Self::PageLockUnknown => return Refusal::PageLockUnknown.fmt(f),
            Self::MappingsUnknown => {
                "the kernel's list of this process's mappings, or its limit on them, cannot be read"
            }
            Self::MappingsUsedUp { count, limit } => {
                return write!(
                    f,
                    "this process has {count} of {limit} mappings that the kernel allows; raise \
                     vm.max_map_count"
                );
            }
            Self::SpillFilesUnknown => {
                "this process was forked in the middle of a park, and does not know what is on disk"
            }
            Self::NoTrim => "the C heap of this platform cannot be told to give free pages back",
            Self::NoHeapCall => {
                "this C library (musl?) has no call that gives free heap pages back, and no other \
                 allocator was found; start the program with jemalloc or mimalloc preloaded"
            }
            Self::NoFileCache => {
                "this platform has no call that drops the cached pages of one file"
            }
            Self::SystemCacheNeedsLinux => "only Linux can drop the page cache of the machine",
            Self::WorkingSetNeedsWindows => "only Windows has a working set that can be emptied",
            Self::Other { text } => text,
        })
    }
}
