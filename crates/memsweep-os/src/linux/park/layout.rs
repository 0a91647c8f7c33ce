//! Whether a range may be replaced right now, according to the kernel and the drivers. Looked up in
//! the hold.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::Path;

use super::areas::{self, Area};
use super::registry::{self, Spills};
use super::{in_kernel, pieces};
use crate::PageLocks;
use crate::linux::process;
use memsweep_core::bytes::Bytes;
use memsweep_core::reason::Refusal;

/// The mappings with their flags, read right before a hold: that takes tens of milliseconds, for which
/// nobody should wait.
pub(super) struct Before {
    areas: Option<Vec<Area>>,
    locked: Option<Bytes>,
}

impl Before {
    pub(super) fn read(proc: &Path, end: usize) -> Self {
        // What is locked after this shows in the hold.
        let locked = process::read(proc).page_locked;
        Self { areas: areas::read_below(proc, end), locked }
    }
}

/// The mappings as they are while nothing else can change them.
///
/// Memory may have been locked, registered or protected since the survey, so everything that was
/// checked there is checked again. In the hold itself that is what is cheap to read: whether the mappings
/// are those of a moment before, and as much is locked. If not, the flags are read again. A flag that
/// changes in that moment, for a whole mapping and without a lock, is not noticed: memory that children
/// shall not inherit, or that somebody registers with a `userfaultfd`.
pub(super) struct Layout<'a> {
    proc: &'a Path,
    end: usize,
    before: &'a Before,
    /// As `maps` shows them now; `None` where they must be read again, with their flags.
    heads: Option<Vec<Area>>,
    again: OnceCell<Option<Vec<Area>>>,
    /// `None`: then no mapping is known to be ours.
    spills: Option<Spills>,
    driver_locked: bool,
    locks: PageLocks,
    /// Where the kernel may be writing; `None` where it does not say.
    in_kernel: Option<Vec<usize>>,
}

impl<'a> Layout<'a> {
    pub(super) fn read(proc: &'a Path, end: usize, before: &'a Before) -> Self {
        let locked = process::read(proc).page_locked;
        let is_as_before = locked.is_some() && locked == before.locked;
        Self {
            proc,
            end,
            before,
            heads: areas::heads_below(proc, end).filter(|_| is_as_before),
            again: OnceCell::new(),
            spills: registry::known(),
            driver_locked: process::driver_locked(proc),
            locks: PageLocks::now(),
            in_kernel: in_kernel::addresses(proc),
        }
    }

    /// The mappings as they are now, as far as they concern a range.
    fn areas(&self, range: &Range<usize>) -> Option<&[Area]> {
        if let (Some(heads), Some(before)) = (&self.heads, &self.before.areas) {
            let (now, then) = (overlapping(heads, range), overlapping(before, range));
            if now.len() == then.len()
                && now.iter().zip(then).all(|(one, other)| one.looks_like(other))
            {
                return Some(then);
            }
        }
        // What is replaced in this hold changes no flag that matters later in it.
        self.again.get_or_init(|| areas::read_below(self.proc, self.end)).as_deref()
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
        let areas = self.areas(range).ok_or(Refusal::Undescribed)?;
        let spills = self.spills.as_ref().ok_or(Refusal::Undescribed)?;
        pieces::covering(range, areas, spills, watched).map(|_| ())
    }
}

fn overlapping<'a>(areas: &'a [Area], range: &Range<usize>) -> &'a [Area] {
    let first = areas.partition_point(|area| area.end <= range.start);
    let last = areas.partition_point(|area| area.start < range.end);
    areas.get(first..last).unwrap_or_default()
}
