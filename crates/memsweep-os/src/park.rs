//! What parking asks of its caller, on every platform.

use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, ParkLimits, Parked, Room, choose};

/// Memory that one object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
}

/// Why parking ends early, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub String);

/// The caller's side of parking: it alone knows who uses the blocks.
///
/// # Safety
/// `hold` calls `swap(n)` only for an `n` for which `blocks[n]` is, at that moment, still allocated
/// at the place that was surveyed, and cannot be written, freed, unmapped or given other rights by
/// anybody until `swap` returns. The memory is replaced on this promise alone.
pub unsafe trait Gate {
    /// Calls `swap(n)` for each `n` for which the promise can be kept. `blocks` are numbers of the
    /// surveyed blocks; those that it leaves out stay as they are.
    ///
    /// # Errors
    /// When nothing can be said about the blocks any more; parking ends.
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop>;

    /// Told once with `done` = 0, when the first batch was written and nothing was held yet, and
    /// after each batch.
    ///
    /// # Errors
    /// When the user cancelled; parking ends.
    fn progress(&mut self, done: Bytes, total: Bytes) -> Result<(), Stop>;
}

/// What was found out about blocks, before anything is chosen.
#[derive(Debug)]
pub struct Survey {
    /// One row for each block, in their order.
    pub facts: Vec<BlockFact>,
    /// What the machine has to spare.
    pub room: Room,
    pub(crate) inner: crate::system::Survey,
}

impl Survey {
    /// Moves the chosen blocks, by their numbers, to disk. Takes long: call it without the GIL.
    ///
    /// Between the survey and [`Gate::hold`] the blocks may be written, freed and unmapped.
    ///
    /// # Safety
    /// - The blocks are those that `gate` speaks of.
    /// - Whoever allocates their memory never takes it for zeroed after giving it back to the kernel
    ///   (`MADV_DONTNEED`), because it shows the file again. That holds for chunks of glibc's heap
    ///   ([`Os::is_heap_chunk`](crate::Os::is_heap_chunk)), and for a mapping of the caller's own
    ///   that nobody gives back so.
    #[must_use]
    pub unsafe fn park(self, chosen: &[u32], limits: &ParkLimits, gate: &mut dyn Gate) -> Parked {
        // SAFETY: the caller's promise.
        unsafe { self.inner.park(chosen, limits, gate) }
    }
}

/// Parks vectors that the caller lends: nobody else can know them meanwhile, so this is safe.
pub(crate) fn park_lent(os: &crate::Os, memory: &mut [Vec<u8>], folder: &Path) -> Outcome {
    if let Some(reason) = os.parking_refused() {
        return Outcome::Unsupported { reason };
    }
    let blocks: Vec<Block> = memory
        .iter()
        .map(|memory| Block { address: memory.as_ptr() as usize, bytes: memory.len() })
        .collect();
    // A program may have another allocator for its own vectors.
    if !blocks.iter().all(|block| os.is_heap_chunk(block.address, *block)) {
        return Outcome::Unsupported { reason: "not of glibc's heap".to_owned() };
    }
    let survey = match os.survey(folder, &blocks) {
        Ok(survey) => survey,
        Err(reason) => return Outcome::Unsupported { reason },
    };
    let limits = ParkLimits::default();
    let choice = choose(&survey.facts, &survey.room, &limits);
    // SAFETY: the blocks are those that `Lent` speaks of, and chunks of glibc's heap.
    let mut parked = unsafe { survey.park(&choice.blocks, &limits, &mut Lent(memory)) };
    for row in &choice.refused {
        parked.refuse(&row.reason, row.blocks, row.bytes);
    }
    Outcome::Parked(parked)
}

/// Vectors that are borrowed as long as this lives.
struct Lent<'a>(#[expect(dead_code, reason = "held, never looked at")] &'a mut [Vec<u8>]);

// SAFETY: the vectors are borrowed for writing, so that nobody else writes or frees them.
unsafe impl Gate for Lent<'_> {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, _: Bytes, _: Bytes) -> Result<(), Stop> {
        Ok(())
    }
}
