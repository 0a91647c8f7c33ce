//! Parking: the pages of a block of memory go to a file that is mapped in their place.
//!
//! The block keeps its address and its content, bit for bit. A touch brings pages back, a write
//! copies the page, and freeing works as before. Nothing here ever brings pages back itself.
//!
//! # Why this is sound
//!
//! A batch of pieces goes through these steps:
//!
//! 1. Without any lock: reserve disk space, write, flush. The pages are untouched and still in
//!    place, so whatever fails here leaves everything as it was. Somebody may write to the memory
//!    meanwhile, or free it: then the copy is worthless, and step 2 finds out. A thread of its own
//!    writes, some files ahead, so that the disk seldom waits for step 2. That a flush of this file
//!    system writes was proved when the folder was opened.
//! 2. While nobody can write ([`Gate::hold`]): look at the mappings again, compare memory and file,
//!    and where they are equal put the file's pages in place of the old ones, in one call of the
//!    kernel. A thread that reads sees the old pages or the new ones, which are equal.
//! 3. Without any lock: drop the file's pages from the page cache.
//!
//! What is assumed, and by whom it is kept:
//! - Outside step 2 a block may be freed and unmapped at any time. Nothing there reads it except the
//!   kernel, which answers with an error: `write`, `mincore`, and advice about what is parked.
//! - In step 2 the block is allocated and nobody writes to it. The caller's gate proves that: it
//!   holds the interpreter lock and has just counted all references of the heap, so that memory which
//!   another thread is working on is left out. Whoever writes without holding a reference that
//!   the interpreter or torch counts is not seen.
//! - The allocator never takes memory that it gave back to the kernel (`MADV_DONTNEED`) for
//!   zeroed, because in a parked range that memory shows the file again. glibc clears what it
//!   hands out as zeroed up to the highest address it ever used, and frees large chunks by
//!   `munmap`. jemalloc believes in zeros, and corrupts. Only glibc's memory is parked.
//! - The disk keeps what it stored. A read error later is `SIGBUS`, as with a broken swap disk.

mod areas;
mod freed;
mod layout;
mod pieces;
mod place;
mod registry;
mod spill;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, ParkLimits, Parked, Room};
use memsweep_core::reason::{Missing, Refusal, Stopped, Why};

use self::areas::Area;
use self::layout::Layout;
use self::pieces::{Examined, Piece, length};
use self::spill::{COMPARED_AT_ONCE, Disk, Folder};
use super::{heap, maps, page_cache, process};
use crate::{Block, Gate, PageLocks, Roots, Stop};

#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub(super) use self::areas::parse as areas;
pub(super) use self::freed::release as release_freed;
pub(crate) use self::registry::parked;

/// How many files are compared and mapped in one hold: first 128 MiB, about 30 ms, and later as many
/// as take as long as the gate's own work, which does not grow with the batch. Fewer and longer
/// holds for the walk over a large heap keep everybody waiting for less time in all.
const FEWEST_FILES: usize = 4;
const MOST_FILES: usize = 16;

/// How many written files may wait. With those in hand this bounds what is dirty in the page cache.
const FILES_AHEAD: usize = 4;

/// Mappings that parking leaves to the rest of the program, as a share of the kernel's limit.
const MAPPINGS_LEFT: u64 = 4;

/// What was found out about the blocks before anything is chosen.
#[derive(Debug)]
pub(crate) struct Survey {
    proc: PathBuf,
    examined: Vec<Examined>,
    folder: Folder,
}

/// Looks at the blocks, the folder and the kernel's limits. `Err` says why nothing can be parked.
pub(crate) fn survey(
    roots: &Roots,
    folder: &Path,
    blocks: &[Block],
) -> Result<crate::Survey, Missing> {
    if let Some(reason) = heap::parking_refused() {
        return Err(reason);
    }
    let proc = &roots.proc;
    let folder = Folder::open(roots, folder)?;
    if process::driver_locked(proc) {
        return Err(Refusal::PageLockUnknown.to_string().into());
    }
    let count = maps::count(proc)
        .ok_or_else(|| "the kernel does not list this process's mappings".to_owned())?;
    let limit = maps::limit(proc)
        .ok_or_else(|| "the kernel does not say how many mappings it allows".to_owned())?;
    let left = (limit - limit / MAPPINGS_LEFT).saturating_sub(count);
    if left == 0 {
        return Err(format!(
            "this process has {count} mappings of {limit} that the kernel allows; raise vm.max_map_count"
        )
        .into());
    }
    let areas = areas::read(proc)
        .ok_or_else(|| "the kernel does not describe this process's mappings".to_owned())?;
    let examined = examine_all(blocks, &areas);
    let facts = blocks.iter().zip(&examined).map(|(block, found)| fact(block, found)).collect();
    let room = Room { disk_free: folder.free(), mappings: Some(left) };
    let inner = Survey { proc: proc.to_owned(), examined, folder };
    Ok(crate::Survey { facts, room, inner })
}

fn examine_all(blocks: &[Block], areas: &[Area]) -> Vec<Examined> {
    let page = rustix::param::page_size();
    let spills = registry::known();
    let mut resident = |range: &Range<usize>| spill::resident(range.start, range.len());
    let locks = PageLocks::now();
    let examine = |block: &Block| {
        let range = block.address..block.address.saturating_add(block.bytes);
        if locks.is_locked(range.clone()) {
            return Examined::refuse(Refusal::PageLockedByDriver);
        }
        pieces::examine(&range, page, areas, &spills, &mut resident)
    };
    blocks.iter().map(examine).collect()
}

fn fact(block: &Block, examined: &Examined) -> BlockFact {
    BlockFact {
        bytes: Bytes(block.bytes as u64),
        movable: examined.bytes(),
        pieces: examined.pieces.len() as u64,
        parked: examined.parked.iter().map(|range| Bytes(range.len() as u64)).sum(),
        refused: examined.refused.clone().map(Why),
    }
}

impl Survey {
    /// Parks the chosen blocks, batch by batch.
    ///
    /// # Safety
    /// That of [`crate::Survey::park`].
    pub(crate) unsafe fn park(
        self,
        chosen: &[u32],
        limits: &ParkLimits,
        gate: &mut dyn Gate,
    ) -> Parked {
        let mut already = Bytes::ZERO;
        for index in chosen {
            for range in self.examined.get(*index as usize).map_or(&[][..], |found| &found.parked) {
                spill::page_out(range.start, range.len());
                already = already.plus(Bytes(range.len() as u64));
            }
        }
        let pieces = chosen.iter().flat_map(|&index| {
            let found = self.examined.get(index as usize).map_or(&[][..], |found| &found.pieces);
            found.iter().map(move |range| (index as usize, range.clone()))
        });
        let files = pieces::pack(pieces);
        // SAFETY: the pieces lie inside the caller's blocks.
        let mut parked = unsafe { carry_out(&self.proc, &self.folder, &files, limits, gate) };
        parked.already = already;
        parked.in_memory = areas::read(&self.proc).map(|areas| registry::back_in_memory(&areas));
        parked.folder = Some(self.folder.to_string());
        parked
    }
}

/// A file that was written, whose flush was begun, and that waits for its turn.
struct Written<'a> {
    file: File,
    pieces: &'a [Piece],
    /// Ends when the file was swapped and dropped from the cache.
    _counted: Counted<'a>,
}

/// One thread writes and this one swaps, so that the disk has work while memory is compared.
///
/// # Safety
/// That of [`crate::Survey::park`], for the blocks that the pieces lie in.
unsafe fn carry_out(
    proc: &Path,
    disk: &(impl Disk + Sync),
    files: &[Vec<Piece>],
    limits: &ParkLimits,
    gate: &mut dyn Gate,
) -> Parked {
    let total: usize = files.iter().map(|file| length(file)).sum();
    let deadline = Instant::now() + Duration::from_secs_f64(limits.seconds.clamp(0.0, 1e6));
    let in_flight = InFlight::default();
    let mut done = Progress {
        proc,
        copy: vec![0; COMPARED_AT_ONCE],
        written: None,
        hold: None,
        parked: Parked::default(),
    };
    thread::scope(|scope| {
        let (ahead, written) = mpsc::sync_channel(FILES_AHEAD);
        let in_flight = &in_flight;
        let writer = thread::Builder::new().name("memsweep-park".to_owned());
        let writing = writer.spawn_scoped(scope, move || {
            for pieces in files {
                let next = if Instant::now() < deadline {
                    let counted = in_flight.add(length(pieces));
                    write(disk, pieces, counted)
                } else {
                    Err(Stopped::Time { seconds: limits.seconds })
                };
                let ended = next.is_err();
                // Nobody takes it any more when parking has ended for another reason.
                if ahead.send(next).is_err() || ended {
                    break;
                }
            }
        });
        let stopped = match writing {
            Ok(_) => done.swap_all(disk, written, gate, Bytes(total as u64)).err(),
            Err(error) => Some(Stopped::from(format!("starting a thread: {error}"))),
        };
        done.parked.stopped = stopped.map(Why);
    });
    done.parked.in_flight = Some(in_flight.most());
    done.parked
}

/// Bytes of files that were begun and are not dropped from the page cache yet.
#[derive(Default)]
struct InFlight {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl InFlight {
    fn add(&self, bytes: usize) -> Counted<'_> {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(now, Ordering::Relaxed);
        Counted { counter: self, bytes }
    }

    fn most(&self) -> Bytes {
        Bytes(self.most.load(Ordering::Relaxed) as u64)
    }
}

/// Counts until it is dropped.
struct Counted<'a> {
    counter: &'a InFlight,
    bytes: usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counter.now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where the time of a hold went.
#[derive(Clone, Copy)]
struct Hold {
    proving: Duration,
    moving: Duration,
}

impl Hold {
    /// For how many files moving takes as long as proving, when these took what they took.
    fn balanced(self, files: usize) -> usize {
        let factor = self.proving.as_secs_f64() / self.moving.as_secs_f64().max(1e-9);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let balanced = (files as f64 * factor) as usize;
        balanced
    }
}

struct Progress<'a> {
    proc: &'a Path,
    /// What is compared, for a moment.
    copy: Vec<u8>,
    /// `None` until the first batch is about to be swapped.
    written: Option<usize>,
    /// The last one in which something moved.
    hold: Option<Hold>,
    parked: Parked,
}

impl Progress<'_> {
    /// Takes files batch by batch. `Err` says why it ends early; what was swapped until then stays
    /// parked, the rest as it was.
    fn swap_all(
        &mut self,
        disk: &impl Disk,
        files: mpsc::Receiver<Result<Written<'_>, Stopped>>,
        gate: &mut dyn Gate,
        total: Bytes,
    ) -> Result<(), Stopped> {
        let mut at_once = FEWEST_FILES;
        loop {
            let mut batch = Vec::with_capacity(at_once);
            let mut stop = None;
            for file in files.iter().take(at_once) {
                match file {
                    Ok(file) => batch.push(file),
                    // What was written before it can be parked all the same.
                    Err(why) => stop = Some(why),
                }
            }
            if !batch.is_empty() {
                self.batch(disk, &batch, gate, total)?;
            }
            if let Some(why) = stop {
                return Err(why);
            }
            if batch.is_empty() {
                return Ok(());
            }
            // Waiting for the lock counts as proving, so that one slow hold must not decide alone.
            let most = MOST_FILES.min(2 * at_once);
            at_once = self.hold.map_or(at_once, |hold| hold.balanced(batch.len()));
            at_once = at_once.clamp(FEWEST_FILES, most);
        }
    }

    fn batch(
        &mut self,
        disk: &impl Disk,
        batch: &[Written<'_>],
        gate: &mut dyn Gate,
        total: Bytes,
    ) -> Result<(), Stopped> {
        for Written { file, .. } in batch {
            disk.flush(file).map_err(|error| format!("flushing: {error}"))?;
        }
        let tell = |gate: &mut dyn Gate, written: usize| {
            gate.progress(Bytes(written as u64), total).map_err(|_| Stopped::Cancelled)
        };
        let written = match self.written {
            Some(written) => written,
            None => tell(gate, 0).map(|()| 0)?,
        } + batch.iter().map(|file| length(file.pieces)).sum::<usize>();
        self.written = Some(written);
        let held = self.swap(disk, batch, gate);
        let mut all_cached = true;
        for Written { file, .. } in batch {
            // Pages that stay cached are the kernel's to take; the program does not need them.
            all_cached &= disk.drop_cache(file).is_ok() && still_cached(file);
        }
        held?;
        if all_cached {
            return Err(Stopped::KeptInMemory);
        }
        tell(gate, written)
    }

    fn swap(
        &mut self,
        disk: &impl Disk,
        written: &[Written<'_>],
        gate: &mut dyn Gate,
    ) -> Result<(), Stopped> {
        let pieces = || written.iter().flat_map(|file| file.pieces);
        let mut blocks: Vec<usize> = pieces().map(|piece| piece.block).collect();
        blocks.dedup();
        let end = pieces().map(|piece| piece.range.end).max().unwrap_or_default();
        let mut swapped = vec![false; blocks.len()];
        let mut trouble: Option<Stopped> = None;
        let begun = Instant::now();
        let (mut proven, mut layout) = (None, None);
        let held = gate.hold(&blocks, &mut |number| {
            let Some(&block) = blocks.get(number) else { return };
            let layout = layout.get_or_insert_with(|| Layout::read(self.proc, end));
            proven.get_or_insert_with(Instant::now);
            swapped[number] = true;
            for Written { file, pieces, .. } in written {
                for piece in pieces.iter().filter(|piece| piece.block == block) {
                    let bytes = piece.range.len();
                    if let Err(reason) = layout.allows(&piece.range) {
                        self.parked.refuse(reason, 1, Bytes(bytes as u64));
                        continue;
                    }
                    // SAFETY: the gate calls us for blocks that are allocated and that nobody
                    // frees or writes meanwhile; the piece lies inside, and is readable, as just
                    // looked up.
                    let same =
                        unsafe { disk.holds(file, piece.offset, &piece.range, &mut self.copy) };
                    match same {
                        Ok(true) => {}
                        Ok(false) => {
                            self.parked.refuse(Refusal::WrittenMeanwhile, 1, Bytes(bytes as u64));
                            continue;
                        }
                        Err(error) => {
                            trouble = Some(format!("comparing what was written: {error}").into());
                            continue;
                        }
                    }
                    // SAFETY: as above, it is private memory of the heap, as just looked up, and it
                    // holds what the file holds.
                    match unsafe { disk.swap(file, piece.offset, piece.range.start, bytes) } {
                        Ok(()) => {
                            self.parked.bytes = self.parked.bytes.plus(Bytes(bytes as u64));
                            self.parked.regions += 1;
                            if let Ok(inode) = spill::inode(file) {
                                registry::add(inode);
                            }
                        }
                        Err(error) => trouble = Some(format!("mapping the file: {error}").into()),
                    }
                }
            }
        });
        if let Some(proven) = proven {
            self.hold = Some(Hold { proving: proven - begun, moving: proven.elapsed() });
        }
        for (block, _) in blocks.iter().zip(&swapped).filter(|(_, swapped)| !**swapped) {
            let bytes = pieces()
                .filter(|piece| piece.block == *block)
                .map(|piece| Bytes(piece.range.len() as u64))
                .sum();
            self.parked.refuse(Refusal::InUseMeanwhile, 1, bytes);
        }
        match (held, trouble) {
            (Err(Stop(why)), _) => Err(why.into()),
            (Ok(()), Some(trouble)) => Err(trouble),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Writes a file and begins to flush it; on any error it is gone again, and nothing was touched.
fn write<'a>(
    disk: &impl Disk,
    pieces: &'a [Piece],
    counted: Counted<'a>,
) -> Result<Written<'a>, Stopped> {
    let file =
        disk.create(length(pieces)).map_err(|error| format!("reserving disk space: {error}"))?;
    for piece in pieces {
        let (address, bytes) = (piece.range.start, piece.range.len());
        match disk.write(&file, piece.offset, address, bytes) {
            // Freed meanwhile. What the file lacks differs from memory, or the gate says no.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
            other => other.map_err(|error| format!("writing: {error}"))?,
        }
    }
    disk.start_flush(&file).map_err(|error| format!("flushing: {error}"))?;
    Ok(Written { file, pieces, _counted: counted })
}

/// Whether the kernel kept nearly all of a file in memory although it was told to drop it.
fn still_cached(file: &File) -> bool {
    let Ok(data) = file.metadata() else { return false };
    page_cache::cached_bytes(file, &data).is_some_and(|cached| cached.0 * 10 > data.len() * 9)
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path().display().fmt(f)
    }
}
