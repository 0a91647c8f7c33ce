//! What parking asks of its caller, on every platform.

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, ParkLimits, Parked, Room};

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
pub trait Gate {
    /// Calls `swap(n)` for each `n` for which `blocks[n]` is, at that moment, still allocated at the
    /// place that was surveyed, and cannot be written or freed by anybody until `swap` returns.
    ///
    /// This is a promise that memory safety rests on. The trait is not `unsafe` only because what
    /// implements it joins two crates that hold all unsafe code, and has none itself.
    ///
    /// # Errors
    /// When nothing can be said about the blocks any more; parking ends.
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop>;

    /// Told after each batch.
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
    pub(crate) inner: Inner,
}

#[cfg(target_os = "linux")]
pub(crate) use crate::linux::park::Survey as Inner;

/// Platforms without parking have no survey to carry out.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) enum Inner {}

impl Survey {
    /// Moves the chosen blocks, by their numbers, to disk. Takes long: call it without the GIL.
    #[must_use]
    pub fn park(self, chosen: &[u32], limits: &ParkLimits, gate: &mut dyn Gate) -> Parked {
        self.inner.park(chosen, limits, gate)
    }
}

#[cfg(not(target_os = "linux"))]
impl Inner {
    fn park(self, _: &[u32], _: &ParkLimits, _: &mut dyn Gate) -> Parked {
        match self {}
    }
}
