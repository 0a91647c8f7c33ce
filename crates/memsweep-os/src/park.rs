//! Parking as its caller sees it, on every platform.

use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, ParkLimits, Parked, Room, choose};
use memsweep_core::reason::{Missing, Refusal, Why};

/// Memory that one object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
}

/// Why parking ends early, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub String);

/// The caller's side of parking: only the caller knows who uses the blocks.
///
/// # Safety
/// `hold` calls `swap(n)` only for an `n` for which `blocks[n]` is, at that moment, still allocated
/// at the place that was surveyed, and nothing can write, free, unmap or change the protection of
/// it until `swap` returns. The memory is replaced on this promise alone.
pub unsafe trait Gate {
    /// Calls `swap(n)` for each `n` for which it can keep the promise. `blocks` are indices of
    /// surveyed blocks; those that are left out stay as they are.
    ///
    /// # Errors
    /// When the promise can be kept for none of them any more. Parking ends.
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop>;

    /// Called with `done` = 0 when the first batch is written and nothing was held yet, then after
    /// each batch.
    ///
    /// # Errors
    /// When the user cancelled. Parking ends.
    fn progress(&mut self, done: Bytes, total: Bytes) -> Result<(), Stop>;
}

/// What can be parked of given blocks. Nothing is chosen yet.
#[derive(Debug)]
pub struct Survey {
    /// One row for each block, in their order.
    pub facts: Vec<BlockFact>,
    /// What the machine has to spare.
    pub room: Room,
    pub(crate) inner: crate::system::Survey,
}

impl Survey {
    /// Moves the chosen blocks, given by their indices, to disk. Slow: call it without the GIL.
    ///
    /// Between the survey and [`Gate::hold`] the blocks may be written, freed or unmapped.
    ///
    /// # Safety
    /// - `gate` makes its promise about the blocks that were surveyed.
    /// - The allocator of their memory never assumes that memory it gave back to the kernel
    ///   (`MADV_DONTNEED`) reads as zeros, because it shows the file again. That is true of chunks
    ///   of glibc's heap ([`Os::is_heap_chunk`](crate::Os::is_heap_chunk)), and of the caller's own
    ///   mappings that are never given back this way.
    #[must_use]
    pub unsafe fn park(self, chosen: &[u32], limits: &ParkLimits, gate: &mut dyn Gate) -> Parked {
        // SAFETY: the caller's promise.
        unsafe { self.inner.park(chosen, limits, gate) }
    }
}

/// What is to be parked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Parking<'a> {
    /// Where the spill files go.
    pub folder: &'a Path,
    /// How far it goes.
    pub limits: &'a ParkLimits,
    /// Blocks that the gate vouches for.
    pub blocks: &'a [Block],
    /// Blocks that belong to somebody else. They stay, and the answer says what they are.
    pub strangers: &'a [Block],
}

/// Surveys, lets the core choose, moves what it chose, and tells what stayed.
///
/// # Safety
/// As for [`Survey::park`], for `asked.blocks`.
pub(crate) unsafe fn park(
    os: &crate::Os,
    asked: &Parking<'_>,
    gate: &mut dyn Gate,
) -> Result<Parked, Missing> {
    let all = [asked.blocks, asked.strangers].concat();
    let mut survey = os.survey(asked.folder, &all)?;
    for fact in survey.facts.iter_mut().skip(asked.blocks.len()) {
        // Whatever else it is, it must not move: nobody vouches for it.
        fact.refused.get_or_insert(Why(Refusal::AnotherLibrary));
    }
    let choice = choose(&survey.facts, &survey.room, asked.limits);
    // SAFETY: the caller's promise for the blocks; strangers were refused, so none was chosen.
    let mut parked = unsafe { survey.park(&choice.blocks, asked.limits, gate) };
    parked.refuse_all(choice.refused);
    Ok(parked)
}

/// Parks vectors that the caller lends. Safe: the borrow proves that nothing else uses them.
pub(crate) fn park_lent(os: &crate::Os, memory: &mut [Vec<u8>], folder: &Path) -> Outcome {
    if let Some(reason) = os.parking_refused() {
        return Outcome::unsupported(reason);
    }
    let blocks: Vec<Block> = memory
        .iter()
        .map(|memory| Block { address: memory.as_ptr() as usize, bytes: memory.len() })
        .collect();
    // A program may have another allocator for its own vectors.
    if !blocks.iter().all(|block| os.is_heap_chunk(block.address, *block)) {
        return Outcome::unsupported(Missing::NotOfTheHeap);
    }
    let asked = Parking { folder, limits: &ParkLimits::default(), blocks: &blocks, strangers: &[] };
    // SAFETY: `Lent` holds the surveyed vectors, and all are chunks of glibc's heap.
    match unsafe { park(os, &asked, &mut Lent(memory)) } {
        Ok(parked) => Outcome::Parked(parked),
        Err(reason) => Outcome::unsupported(reason),
    }
}

/// Holds the vectors' borrow.
struct Lent<'a>(#[expect(dead_code, reason = "held, never looked at")] &'a mut [Vec<u8>]);

// SAFETY: the vectors are borrowed mutably, so nothing else can write or free them.
unsafe impl Gate for Lent<'_> {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, _: Bytes, _: Bytes) -> Result<(), Stop> {
        Ok(())
    }
}
