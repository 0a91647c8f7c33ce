//! Whether a range may be replaced right now, according to the kernel and the drivers. Looked up in
//! the hold.

use std::ops::Range;
use std::path::Path;

use super::areas::{self, Area};
use super::pieces;
use super::registry::{self, Spills};
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
}

impl Layout {
    pub(super) fn read(proc: &Path, end: usize) -> Self {
        Self {
            areas: areas::read_below(proc, end),
            spills: registry::known(),
            driver_locked: process::driver_locked(proc),
            locks: PageLocks::now(),
        }
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
