//! Whether a range may be replaced right now, according to the kernel and the drivers. Looked up in
//! the hold.

use std::ops::Range;
use std::path::Path;

use super::areas::{self, Area};
use super::registry::{self, Spills};
use super::{in_kernel, pieces};
use crate::PageLocks;
use crate::linux::process;
use memsweep_core::reason::Refusal;

/// The mappings as they are while nothing else can change them.
///
/// Memory may have been locked, registered or protected since the survey, so everything that was
/// checked there is checked again.
pub(super) struct Layout {
    areas: Option<Vec<Area>>,
    /// `None`: then no mapping is known to be ours.
    spills: Option<Spills>,
    driver_locked: bool,
    locks: PageLocks,
    /// Where the kernel may be writing; `None` where it does not say.
    in_kernel: Option<Vec<usize>>,
}

impl Layout {
    pub(super) fn read(proc: &Path, end: usize) -> Self {
        Self {
            areas: areas::read_below(proc, end),
            spills: registry::known(),
            driver_locked: process::driver_locked(proc),
            locks: PageLocks::now(),
            in_kernel: in_kernel::addresses(proc),
        }
    }

    /// Whether a thread waits for the kernel to write to this block.
    pub(super) fn is_written_by_the_kernel(&self, block: &Range<usize>) -> bool {
        let Some(addresses) = &self.in_kernel else { return true };
        let first = addresses.partition_point(|&address| address < block.start);
        addresses.get(first).is_some_and(|&address| address < block.end)
    }

    /// `Err` says why the range must not be replaced. `watched` as for [`Area::refusal`].
    pub(super) fn allows(&self, range: &Range<usize>, watched: bool) -> Result<(), Refusal> {
        if self.driver_locked {
            return Err(Refusal::PageLockUnknown);
        }
        if self.locks.is_locked(range.clone()) {
            return Err(Refusal::PageLockedByDriver);
        }
        let areas = self.areas.as_ref().ok_or(Refusal::Undescribed)?;
        let spills = self.spills.as_ref().ok_or(Refusal::Undescribed)?;
        pieces::covering(range, areas, spills, watched).map(|_| ())
    }
}
