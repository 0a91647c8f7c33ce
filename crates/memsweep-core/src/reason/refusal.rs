//! Why memory stays where it is although it could be moved or taken, and why moving it ends early.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::has_other;

/// Why a block of memory stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// Somebody is using it.
    InUse,
    /// Somebody began to use it after it was found idle.
    InUseMeanwhile,
    /// It changed between being written to disk and being replaced.
    WrittenMeanwhile,
    /// The kernel could have told who writes to it, and was not asked in time.
    Unwatched,
    /// Almost none of it is in memory.
    HardlyInMemory,
    /// The sweep's own limit.
    ByteLimit,
    /// It would take more than half of the free disk space.
    DiskLimit,
    /// The kernel allows a process only so many mappings.
    MappingLimit,
    /// It covers no whole page.
    SmallerThanPage,
    /// The kernel maps nothing there.
    NotMapped,
    /// It is backed by a file already.
    MappedFile,
    /// Other processes see it.
    Shared,
    /// It is not writable.
    ReadOnly,
    /// It may not leave RAM: `mlock` and the like.
    PageLocked,
    /// A GPU driver has locked its pages.
    PageLockedByDriver,
    /// A driver has page-locked memory somewhere in this process, and does not say where.
    PageLockUnknown,
    /// Huge pages cannot be replaced in part.
    HugePages,
    /// Its mapping has a property that a replacement would lose.
    SpecialMapping,
    /// The kernel does not describe it any more.
    Undescribed,
    /// It is not part of the C library's heap.
    NotOfTheHeap,
    /// Another library allocated it.
    AnotherLibrary,
    /// A CUDA graph may hold its bare address.
    CudaGraph,
    /// A numpy array shares the same memory.
    Arrays,
    /// Its class runs Python code, so using it may do anything.
    PythonClass,
    /// Torch did not allocate it.
    NotTorchs,
    /// A weak reference to it exists, whose owner may use it at any time.
    WeakReferences,
    /// Torch's own code holds it, such as a graph that a backward pass will walk.
    UsedByTorch,
    /// The class that says it was destroyed could not be set.
    ClassNotSet,
    /// Anything else.
    Other {
        /// In words.
        text: String,
    },
}

has_other!(Refusal);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "in use",
            Self::InUseMeanwhile => "came into use in the meantime",
            Self::WrittenMeanwhile => "written to in the meantime",
            Self::Unwatched => "writes to it could not be watched for",
            Self::HardlyInMemory => "almost none of it in memory",
            Self::ByteLimit => "beyond the byte limit for parking",
            Self::DiskLimit => "beyond half of the free disk space",
            Self::MappingLimit => "beyond the number of mappings that the kernel allows",
            Self::SmallerThanPage => "smaller than a page",
            Self::NotMapped => "not mapped",
            Self::MappedFile => "a mapped file",
            Self::Shared => "shared with other processes",
            Self::ReadOnly => "not writable",
            Self::PageLocked => "page-locked",
            Self::PageLockedByDriver => "page-locked by a GPU driver",
            Self::PageLockUnknown => {
                "a driver has page-locked memory of this process, and it is unknown where"
            }
            Self::HugePages => "in huge pages that cannot be split",
            Self::SpecialMapping => "mapped in a special way",
            Self::Undescribed => "the list of mappings can no longer be read",
            Self::NotOfTheHeap => "not part of the C heap",
            Self::AnotherLibrary => "another library's memory",
            Self::CudaGraph => "a CUDA graph may hold its address",
            Self::Arrays => "numpy arrays hold it",
            Self::PythonClass => "its class runs Python code",
            Self::NotTorchs => "not torch's own memory",
            Self::WeakReferences => "weak references to it exist",
            Self::UsedByTorch => "in use by torch itself",
            Self::ClassNotSet => "its class could not be set",
            Self::Other { text } => text,
        })
    }
}

/// Why parking ended before everything chosen had moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Stopped {
    /// Its time was up.
    Time {
        /// The limit.
        seconds: f64,
    },
    /// The user cancelled.
    Cancelled,
    /// What was written did not leave memory.
    KeptInMemory,
    /// Anything else, such as a disk error.
    Other {
        /// In words.
        text: String,
    },
}

// A limit is a plain number, never NaN.
impl Eq for Stopped {}

has_other!(Stopped);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { seconds } => write!(f, "the {seconds} s for parking were up"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::KeptInMemory => f.write_str("the file system keeps written data in memory"),
            Self::Other { text } => f.write_str(text),
        }
    }
}
