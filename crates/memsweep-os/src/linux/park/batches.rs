//! Steps 2 and 3 of parking: written files replace memory, batch by batch, and are then dropped
//! from the page cache.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::Parked;
use memsweep_core::reason::{Refusal, Stopped};

use super::ahead::Written;
use super::layout::{Before, Layout};
use super::pieces::{length, steps};
use super::registry;
use super::spill::{self, COMPARED_AT_ONCE, Disk};
use super::watch::Watch;
use crate::linux::page_cache;
use crate::{Gate, Stop};

/// How many files are compared and mapped in one hold, of which each takes some milliseconds: as many as fit
/// into this time, in which the program may have to wait.
pub(super) const FEWEST_FILES: usize = 1;
const MOST_FILES: usize = 4;
const HOLD: Duration = Duration::from_millis(12);

/// For how many files a hold has time, when it took so long to compare and map some.
fn fitting(files: usize, took: Duration) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let fitting = (files as f64 * HOLD.as_secs_f64() / took.as_secs_f64().max(1e-9)) as usize;
    fitting.clamp(FEWEST_FILES, MOST_FILES)
}

/// What was done so far, and what the size of the next batch depends on.
pub(super) struct Progress<'a> {
    proc: &'a Path,
    /// `None` where the kernel cannot tell what was written.
    watch: Option<&'a Watch>,
    /// Room for the part of a file that is being compared.
    copy: Vec<u8>,
    /// Bytes written in the batches so far; `None` before the first one is to be swapped.
    written: Option<usize>,
    /// How long it took to compare and map the last batch of which something moved.
    moving: Option<Duration>,
    parked: Parked,
}

impl<'a> Progress<'a> {
    pub(super) fn new(proc: &'a Path, watch: Option<&'a Watch>) -> Self {
        let copy = vec![0; COMPARED_AT_ONCE];
        Self { proc, watch, copy, written: None, moving: None, parked: Parked::default() }
    }

    /// What was parked, and what was not.
    pub(super) fn into_parked(self) -> Parked {
        self.parked
    }

    /// Swaps files batch by batch. `Err` says why it ended early: what was swapped by then stays
    /// parked, the rest stays as it was.
    pub(super) fn swap_all(
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
                    // The files before it can be parked all the same.
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
            at_once = self.moving.map_or(at_once, |took| fitting(batch.len(), took));
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
            // The kernel can take pages that stay cached at any time; the program does not need
            // them.
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
        let steady = self.watch.map(Watch::steady);
        let before = Before::read(self.proc, end);
        let (mut proven, mut layout) = (None, None);
        let held = gate.hold(&blocks, &mut |number| {
            let Some(&block) = blocks.get(number) else { return };
            let layout = layout.get_or_insert_with(|| Layout::read(self.proc, end, &before));
            proven.get_or_insert_with(Instant::now);
            let own = pieces().filter(|piece| piece.block == block);
            let (start, end) = own.fold((usize::MAX, 0), |(start, end), piece| {
                (start.min(piece.range.start), end.max(piece.range.end))
            });
            let page = rustix::param::page_size();
            // A block begins and ends within a page of its pieces.
            if self.watch.is_some()
                && layout.is_written_by_the_kernel(&(start.saturating_sub(page)..end + page))
            {
                return;
            }
            swapped[number] = true;
            for Written { file, pieces, watched, .. } in written {
                let pieces = pieces.iter().zip(watched);
                for (piece, watched) in pieces.filter(|(piece, _)| piece.block == block) {
                    let bytes = piece.range.len();
                    let allowed = match watched {
                        Some(false) => Err(Refusal::Unwatched),
                        _ => layout.allows(&piece.range, watched.is_some()),
                    };
                    if let Err(reason) = allowed {
                        self.parked.refuse(reason, 1, Bytes(bytes as u64));
                        continue;
                    }
                    // SAFETY: the gate calls us for blocks that are allocated and that nothing
                    // frees or writes until we return; the piece lies inside, and is readable, as
                    // just looked up.
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
                    let (mut moved, mut stayed) = (0, None);
                    for step in steps(&piece.range) {
                        if let Some(reason) = seen_by(self.watch, &step) {
                            let (_, size) = stayed.get_or_insert((reason, 0));
                            *size += step.len();
                            continue;
                        }
                        let offset = piece.offset + step.start - piece.range.start;
                        // SAFETY: as above; it is also private memory of the heap, as just looked up,
                        // and equal to the file, as just compared.
                        match unsafe { disk.swap(file, offset, step.start, step.len()) } {
                            Ok(()) => moved += step.len(),
                            Err(error) => {
                                trouble = Some(format!("mapping the file: {error}").into());
                            }
                        }
                    }
                    if let Some((reason, size)) = stayed {
                        self.parked.refuse(reason, 1, Bytes(size as u64));
                    }
                    if moved > 0 {
                        self.parked.bytes = self.parked.bytes.plus(Bytes(moved as u64));
                        self.parked.regions += 1;
                        if let Ok(inode) = spill::inode(file) {
                            registry::add(inode);
                        }
                    }
                }
            }
        });
        drop(steady);
        if let Some(proven) = proven {
            self.moving = Some(proven.elapsed());
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

/// Why memory stays that was written without a reference to it, or was not watched although it could be.
fn seen_by(watch: Option<&Watch>, range: &Range<usize>) -> Option<Refusal> {
    match watch?.saw_a_write(range) {
        Ok(false) => None,
        Ok(true) => Some(Refusal::WrittenMeanwhile),
        Err(_) => Some(Refusal::Unwatched),
    }
}

/// Whether nearly all of a file is still in the page cache although it should have been dropped.
fn still_cached(file: &File) -> bool {
    let Ok(data) = file.metadata() else { return false };
    page_cache::cached_bytes(file, &data).is_some_and(|cached| cached.0 * 10 > data.len() * 9)
}
