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
//!    meanwhile, or free it: then the copy is worthless, and step 2 finds out.
//! 2. While nobody can write ([`Gate::hold`]): compare memory and file, and where they are equal
//!    put the file's pages in place of the old ones, in one call of the kernel. A thread that
//!    reads sees the old pages or the new ones, which are equal.
//! 3. Without any lock: drop the file's pages from the page cache.
//!
//! What is assumed, and by whom it is kept:
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
mod pieces;
mod registry;
mod spill;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, ParkLimits, Parked, Room};

use self::areas::Area;
use self::pieces::{Examined, Piece, length};
use self::spill::{Disk, Folder};
use super::{heap, maps, page_cache, process};
use crate::{Block, Gate, Stop};

#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub(super) use self::areas::parse as areas;
pub(crate) use self::registry::parked;
pub(super) use self::spill::is_mapped;

/// How many files are compared and mapped in one hold: 128 MiB, about 30 ms.
const FEWEST_FILES: usize = 4;

/// The gate's own work in a hold does not grow with the batch. Where it takes most of the hold, as
/// the walk over a large heap does, fewer and larger batches hold everybody up for less time in all.
const MOST_FILES: usize = 16;
const LONG_HOLD: Duration = Duration::from_millis(100);

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
    proc: &Path,
    folder: &Path,
    blocks: &[Block],
) -> Result<crate::Survey, String> {
    if let Some(reason) = heap::parking_refused() {
        return Err(reason);
    }
    let folder = Folder::open(folder)?;
    if process::driver_locked(proc) {
        return Err("a driver has page-locked memory of this process and does not say where".into());
    }
    let count = maps::count(proc).ok_or("the kernel does not list this process's mappings")?;
    let limit = maps::limit(proc).ok_or("the kernel does not tell its limit of mappings")?;
    let left = (limit - limit / MAPPINGS_LEFT).saturating_sub(count);
    if left == 0 {
        return Err(format!(
            "this process has {count} mappings of {limit} that the kernel allows; raise vm.max_map_count"
        ));
    }
    let areas = areas::read(proc).ok_or("the kernel does not describe this process's mappings")?;
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
    let range = |block: &Block| block.address..block.address.saturating_add(block.bytes);
    blocks
        .iter()
        .map(|block| pieces::examine(&range(block), page, areas, &spills, &mut resident))
        .collect()
}

fn fact(block: &Block, examined: &Examined) -> BlockFact {
    BlockFact {
        bytes: Bytes(block.bytes as u64),
        movable: examined.bytes(),
        pieces: examined.pieces.len() as u64,
        parked: examined.parked.iter().map(|range| Bytes(range.len() as u64)).sum(),
        refused: examined.refused.map(str::to_owned),
    }
}

impl Survey {
    /// Parks the chosen blocks, batch by batch.
    pub(crate) fn park(
        mut self,
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
        let mut parked = carry_out(&mut self.folder, &files, limits, gate);
        parked.already = already;
        parked.in_memory = areas::read(&self.proc).map(|areas| registry::back_in_memory(&areas));
        parked.folder = Some(self.folder.to_string());
        parked
    }
}

/// A file that was written and flushed and waits for its turn.
struct Written<'a> {
    file: File,
    pieces: &'a [Piece],
}

fn carry_out(
    disk: &mut impl Disk,
    files: &[Vec<Piece>],
    limits: &ParkLimits,
    gate: &mut dyn Gate,
) -> Parked {
    let total: usize = files.iter().map(|file| length(file)).sum();
    let deadline = Instant::now() + Duration::from_secs_f64(limits.seconds.clamp(0.0, 1e6));
    let mut done = Progress::default();
    let (mut rest, mut at_once) = (files, FEWEST_FILES);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(at_once.min(rest.len()));
        rest = later;
        if Instant::now() >= deadline {
            done.parked.stopped = Some(format!("the {} s for parking were over", limits.seconds));
            break;
        }
        if let Err(stop) = done.batch(disk, batch, gate) {
            done.parked.stopped = Some(stop);
            break;
        }
        if done.held > LONG_HOLD {
            at_once = (at_once * 2).min(MOST_FILES);
        }
        if gate.progress(Bytes(done.written as u64), Bytes(total as u64)).is_err() {
            done.parked.stopped = Some("cancelled".to_owned());
            break;
        }
    }
    done.parked
}

#[derive(Default)]
struct Progress {
    written: usize,
    /// How long the last hold took.
    held: Duration,
    parked: Parked,
}

impl Progress {
    /// `Err` says why it ends here. What was swapped stays parked, the rest as it was.
    fn batch(
        &mut self,
        disk: &mut impl Disk,
        batch: &[Vec<Piece>],
        gate: &mut dyn Gate,
    ) -> Result<(), String> {
        let written = write(disk, batch)?;
        let bytes: usize = batch.iter().map(|file| length(file)).sum();
        self.written += bytes;
        let held = self.swap(disk, &written, gate);
        let mut all_cached = true;
        for Written { file, .. } in &written {
            // Pages that stay cached are the kernel's to take; the program does not need them.
            all_cached &= disk.drop_cache(file).is_ok() && still_cached(file);
        }
        held?;
        if all_cached {
            return Err("the file system keeps what was written in memory".to_owned());
        }
        Ok(())
    }

    fn swap(
        &mut self,
        disk: &mut impl Disk,
        written: &[Written<'_>],
        gate: &mut dyn Gate,
    ) -> Result<(), String> {
        let mut views = Vec::with_capacity(written.len());
        for Written { file, pieces } in written {
            let view = disk.view(file, length(pieces));
            views.push(view.map_err(|error| format!("comparing what was written: {error}"))?);
        }
        let mut blocks: Vec<usize> =
            written.iter().flat_map(|file| file.pieces).map(|piece| piece.block).collect();
        blocks.dedup();
        let mut swapped = vec![false; blocks.len()];
        let mut trouble = None;
        let begun = Instant::now();
        let held = gate.hold(&blocks, &mut |number| {
            let Some(&block) = blocks.get(number) else { return };
            swapped[number] = true;
            for (Written { file, pieces }, view) in written.iter().zip(&views) {
                for piece in pieces.iter().filter(|piece| piece.block == block) {
                    let (address, bytes) = (piece.range.start, piece.range.len());
                    // SAFETY: the gate calls us for blocks that are allocated and that nobody
                    // frees or writes meanwhile; the piece lies inside.
                    if !unsafe { view.equals(piece.offset, address, bytes) } {
                        self.parked.refuse("written to meanwhile", 1, Bytes(bytes as u64));
                        continue;
                    }
                    // SAFETY: as above, and the survey found private memory there.
                    match unsafe { disk.swap(file, piece.offset, address, bytes) } {
                        Ok(()) => {
                            self.parked.bytes = self.parked.bytes.plus(Bytes(bytes as u64));
                            self.parked.regions += 1;
                            if let Ok(inode) = spill::inode(file) {
                                registry::add(inode);
                            }
                        }
                        Err(error) => trouble = Some(format!("mapping the file: {error}")),
                    }
                }
            }
        });
        self.held = begun.elapsed();
        for (block, _) in blocks.iter().zip(&swapped).filter(|(_, swapped)| !**swapped) {
            let pieces = written.iter().flat_map(|file| file.pieces);
            let bytes = pieces
                .filter(|piece| piece.block == *block)
                .map(|piece| Bytes(piece.range.len() as u64))
                .sum();
            self.parked.refuse("taken into use meanwhile", 1, bytes);
        }
        match (held, trouble) {
            (Err(Stop(why)), _) => Err(why),
            (Ok(()), Some(trouble)) => Err(trouble),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Writes and flushes a batch; on any error the files are gone again, and nothing was touched.
fn write<'a>(disk: &mut impl Disk, batch: &'a [Vec<Piece>]) -> Result<Vec<Written<'a>>, String> {
    let mut written = Vec::with_capacity(batch.len());
    for pieces in batch {
        let file = disk
            .create(length(pieces))
            .map_err(|error| format!("reserving disk space: {error}"))?;
        for piece in pieces {
            let (address, bytes) = (piece.range.start, piece.range.len());
            match disk.write(&file, piece.offset, address, bytes) {
                // Freed meanwhile. What the file lacks differs from memory, or the gate says no.
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
                other => other.map_err(|error| format!("writing: {error}"))?,
            }
        }
        disk.start_flush(&file).map_err(|error| format!("flushing: {error}"))?;
        written.push(Written { file, pieces });
    }
    for Written { file, .. } in &written {
        disk.flush(file).map_err(|error| format!("flushing: {error}"))?;
    }
    Ok(written)
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
