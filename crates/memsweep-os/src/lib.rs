//! Reads and releases memory of this process, the operating system and the GPU driver.
//!
//! Design constraints:
//! - it never decides: what to release, and whether that was worth it, is decided elsewhere;
//! - it touches no other process, and reads of its own children only what the system tells of them, asks for no elevation, and starts no thread that outlives a call;
//! - a reading never creates a device context, and what cannot be read is `None`, never 0;
//! - nothing here fails or panics: a refused call is an [`Outcome`] that says why;
//! - an [`Outcome`] says what the call did; measuring what it freed is the caller's job.
//!
//! The kernel's files are found beneath [`Roots`], so that tests read fixture trees.
#![allow(unsafe_code, reason = "it releases and moves memory; each use says why it is sound")]
#![deny(missing_docs)]

mod devices;
mod park;
mod platform;
mod reader;

// Each system has a folder. The rest of the crate calls the one it is built for `system`.
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as system;
#[cfg(any(test, not(target_os = "linux")))]
mod unsupported;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
use unsupported as system;

#[cfg(all(fuzzing, target_os = "linux"))]
#[doc(hidden)]
pub use linux::fuzzing;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::park::Parked;
use memsweep_core::reading::Reading;
use memsweep_core::reason::Missing;
use memsweep_core::rest::Child;

pub use crate::devices::page_locks::PageLocks;
pub use crate::park::{Block, Gate, Parking, Stop, Survey};
use crate::platform::Platform;
pub use crate::reader::{Detail, Reader};
use crate::system::Host;

/// Where the kernel's file systems are mounted. Only Linux has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The process file system, `/proc`.
    pub proc: PathBuf,
    /// The device file system, `/sys`; the cgroup file system is looked for beneath it.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), sys: PathBuf::from("/sys") }
    }
}

/// The memory of this process and of the machine it runs on.
#[derive(Debug)]
pub struct Os {
    host: Host,
}

impl Os {
    /// The machine we run on. Costs nothing and opens nothing; the first reading does.
    #[must_use]
    pub fn current() -> Self {
        Self { host: Host::current() }
    }

    /// A machine described by the files beneath `roots`. Its readings come from those files alone:
    /// no GPU driver is opened and the C heap is not looked at.
    #[must_use]
    pub fn at(roots: Roots) -> Self {
        Self { host: Host::at(roots) }
    }

    /// A full reading by a new [`Reader`].
    #[must_use]
    pub fn read(&self) -> Reading {
        self.reader().read(Detail::Full)
    }

    /// A reader for repeated readings.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.host.clone())
    }

    /// Carries out an action of the operating system; `None` for any other action.
    ///
    /// Parking is not one of them: it needs a caller who can prove that the memory is not in use.
    #[must_use]
    pub fn release(&self, action: &Action) -> Option<Outcome> {
        Some(match action {
            Action::TrimHeap => self.trim_heap(),
            Action::DropFileCache { files } => self.drop_file_cache(files),
            Action::SystemWide => self.host.system_wide(),
            _ => return None,
        })
    }

    /// How much of a file is in the page cache. `None` where this user may not know.
    #[must_use]
    pub fn cached(&self, file: &Path) -> Option<Bytes> {
        self.host.cached(file)
    }

    /// Gives the C heap's free pages back to the operating system.
    ///
    /// Holds the heap's locks for about 70 ms per GB released, so call it without the GIL.
    /// `detail` names the allocators that were trimmed.
    #[must_use]
    pub fn trim_heap(&self) -> Outcome {
        self.host.trim_heap()
    }

    /// Drops the clean page cache of `files`, one by one, except those this process has mapped.
    ///
    /// Other programs that read these files lose the cache too. Dirty pages and pages that another
    /// process has mapped stay. `claimed` is by how much the kernel's count of cached pages fell,
    /// or `None` where this user may not see it.
    #[must_use]
    pub fn drop_file_cache(&self, files: &[String]) -> Outcome {
        self.host.drop_file_cache(files)
    }

    /// The processes that this one has started, and those that they have started, with their RAM. Looks
    /// at every process of the machine: for now and then. Empty where it is unknown, and on systems
    /// other than Linux.
    #[must_use]
    pub fn children(&self) -> Vec<Child> {
        self.host.children()
    }

    /// The distinct regular files mapped into this process that lie in one of the folders `below` and in
    /// none of `except`, however deep, as absolute paths without symbolic links, sorted. Deleted files and
    /// names that are not UTF-8 are left out. Empty where it is unknown.
    #[must_use]
    pub fn mapped_files(&self, below: &[&Path], except: &[&Path]) -> Vec<String> {
        self.host.mapped_files(below, except)
    }

    /// Why nothing at all can be parked in this process; `None` where it can.
    #[must_use]
    pub fn parking_refused(&self) -> Option<Missing> {
        self.host.parking_refused()
    }

    /// Whether parking notices a write by somebody who has no reference to the memory, because the kernel
    /// tells what was written: Linux 6.7 and newer, unless a sandbox forbids it. Tried once.
    #[must_use]
    pub fn notices_writes(&self) -> bool {
        self.host.notices_writes()
    }

    /// Finds out what can be parked: how much of each block is in memory and may move, and how much
    /// room there is. Reads the process's page tables, 20 ms per GiB, and writes 128 KiB into the
    /// folder to see whether they leave memory. The blocks need not be alive, as their content is
    /// not read.
    ///
    /// # Errors
    /// Why nothing can be parked here, and what would help.
    pub fn survey(&self, folder: &Path, blocks: &[Block]) -> Result<Survey, Missing> {
        self.host.survey(folder, blocks)
    }

    /// Parks what is meant: finds out what can move, chooses, moves it, and tells what stayed. Takes
    /// long: call it without the GIL.
    ///
    /// # Safety
    /// As for [`Survey::park`], for `asked.blocks`.
    ///
    /// # Errors
    /// Why nothing can be parked here, and what would help.
    pub unsafe fn park(&self, asked: &Parking<'_>, gate: &mut dyn Gate) -> Result<Parked, Missing> {
        // SAFETY: the caller's promise.
        unsafe { park::park(self, asked, gate) }
    }

    /// Whether the block lies in a chunk of glibc's heap, the only memory that can be parked.
    /// `start` is the start of the allocation.
    ///
    /// Safe for any address: memory that cannot be read is no such chunk. The answer means
    /// something only while the allocation is alive.
    #[must_use]
    pub fn is_heap_chunk(&self, start: usize, block: Block) -> bool {
        self.host.is_heap_chunk(start, block)
    }

    /// Parks what it can of the caller's vectors, as a trial. They stay valid.
    #[must_use]
    pub fn park_lent(&self, memory: &mut [Vec<u8>], folder: &Path) -> Outcome {
        park::park_lent(self, memory, folder)
    }

    /// Drops the page cache of the whole machine, a side effect that only the `system_wide` switch
    /// allows. Checks the permission before it does anything expensive.
    #[must_use]
    pub fn drop_system_caches(&self) -> Outcome {
        self.host.drop_system_caches()
    }

    /// Empties our own working set. Windows only, cosmetic, and only for `system_wide`.
    #[must_use]
    pub fn empty_working_set(&self) -> Outcome {
        self.host.empty_working_set()
    }
}

/// Seconds since the first reading of this process.
fn seconds() -> f64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_secs_f64()
}
