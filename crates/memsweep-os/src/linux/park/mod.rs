//! Parking: the pages of a block of memory move to a file that is mapped in their place.
//!
//! The block keeps its address and its content, bit for bit. A touch brings pages back, a write
//! copies the page, and freeing works as before. Nothing here ever brings pages back itself.
//!
//! # Why this is sound
//!
//! A batch of pieces goes through these steps:
//!
//! 1. Without any lock (`ahead`): watch for writes where the kernel can, reserve disk space, write, flush. The pages are untouched and
//!    still in place, so any failure here leaves everything as it was. The program may write to the
//!    memory or free it at the same time: then the copy is worthless, and step 2 finds out. A
//!    separate thread writes some files ahead, so that the disk seldom waits for step 2. That a
//!    flush on this file system really writes was proved when the folder was opened.
//! 2. While nothing can write to the memory ([`Gate::hold`], in `batches`): look at the mappings
//!    again, compare memory and file, and where they are equal and no write was noticed replace the
//!    pages by the file's, in one system call. A thread that reads sees the old pages or the new ones, which are equal.
//! 3. Without any lock (`batches`): drop the file's pages from the page cache.
//!
//! What this assumes, and who ensures it:
//! - Outside step 2 a block may be freed and unmapped at any time. There only the kernel reads it,
//!   and answers with an error if it is gone: `write`, `mincore`, and advice about what is parked.
//! - In step 2 the block is allocated and nothing writes to it. The caller's gate proves that: it
//!   holds the interpreter lock and has just counted the references to the memory and to whatever
//!   leads to it, so that memory which another thread is working on is left out. It does not see a writer that was given nothing
//!   but an address; `watch` does, up to a moment before the pages are replaced.
//! - The allocator never assumes that memory it gave back to the kernel (`MADV_DONTNEED`) reads as
//!   zeros, because in a parked range that memory shows the file again. glibc clears what it hands
//!   out as zeroed up to the highest address it ever used, and frees large chunks by `munmap`.
//!   jemalloc relies on zeros, and data is corrupted. Only glibc's memory is parked.
//! - The disk keeps what it stored. A read error later is `SIGBUS`, as with a broken swap disk.

mod ahead;
mod areas;
mod batches;
mod freed;
mod heap_chunk;
mod in_kernel;
mod layout;
mod pieces;
mod place;
mod registry;
mod spill;
mod survey;
mod watch;

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{ParkLimits, Parked};
use memsweep_core::reason::{Missing, Stopped, Why};

use self::ahead::{FILES_AHEAD, InFlight, write_all};
use self::batches::Progress;
use self::pieces::{Piece, length};
use self::spill::Disk;
use self::watch::Watch;
use super::allocator;
use crate::Gate;

#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub(super) use self::areas::parse as areas;
pub(super) use self::freed::release as release_freed;
pub(super) use self::heap_chunk::is_chunk;
pub(super) use self::registry::parked;
pub(crate) use self::survey::{Survey, survey};
pub(super) use self::watch::is_available as notices_writes;

/// Why memory of this process's allocator cannot be parked; `None` for glibc's.
///
/// A parked page that its allocator gives back to the kernel shows the file again, not zeros. Under
/// jemalloc 323 of 360 arrays that were allocated as zeroed after parking, freeing and trimming
/// were not.
pub(super) fn refused() -> Option<Missing> {
    if allocator::is_glibc() {
        return None;
    }
    let name = allocator::name();
    Some(Missing::Allocator { name: name.to_owned() })
}

/// Parks the pieces, file by file: another thread writes ahead while this one swaps, so that the
/// disk is busy while memory is compared.
///
/// # Safety
/// As for [`crate::Survey::park`], for the blocks that the pieces lie in.
unsafe fn carry_out(
    proc: &Path,
    watch: Option<&Watch>,
    disk: &(impl Disk + Sync),
    files: &[Vec<Piece>],
    limits: &ParkLimits,
    gate: &mut dyn Gate,
) -> Parked {
    let total: usize = files.iter().map(|file| length(file)).sum();
    let in_flight = InFlight::default();
    let mut done = Progress::new(proc, watch);
    let stopped = thread::scope(|scope| {
        let (ahead, written) = mpsc::sync_channel(FILES_AHEAD);
        let writer = thread::Builder::new().name("memsweep-park".to_owned());
        let in_flight = &in_flight;
        match writer
            .spawn_scoped(scope, move || write_all(disk, watch, files, limits, in_flight, &ahead))
        {
            Ok(_) => done.swap_all(disk, written, gate, Bytes(total as u64)).err(),
            Err(error) => Some(Stopped::from(format!("starting a thread: {error}"))),
        }
    });
    Parked { stopped: stopped.map(Why), in_flight: Some(in_flight.most()), ..done.into_parked() }
}
