//! The spill files of this process. The kernel is asked each time what of them is still mapped:
//! memory may have been freed, moved or unmapped without our knowing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use memsweep_core::bytes::Bytes;

use super::areas::{self, Area};
use crate::Detail;
use crate::linux::text::read_up_to;

const MAPS_LIMIT: u64 = 64 * 1024 * 1024;

static INODES: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// Spill files by their inode. Their mappings have the name that the kernel gives to nameless
/// files, so another file that gets the same inode later is not mistaken for one of ours. The
/// device number is not compared: btrfs and overlayfs show another one here than `stat` does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spills(BTreeSet<u64>);

impl Spills {
    #[cfg(test)]
    pub(crate) fn of(inodes: &[u64]) -> Self {
        Self(inodes.iter().copied().collect())
    }

    pub(crate) fn contains(&self, area: &Area) -> bool {
        self.0.contains(&area.inode)
            && area.name.ends_with(format!("/#{} (deleted)", area.inode).as_bytes())
    }
}

/// The files, while nobody else changes them. `None`: a forked child may have inherited the lock while
/// it was held, and waits for nobody then. Others hold it for microseconds.
fn inodes() -> Option<MutexGuard<'static, BTreeSet<u64>>> {
    for _ in 0..1000 {
        match INODES.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Ok(inodes) => return Some(inodes),
        }
    }
    None
}

/// All files that were made and may still be mapped; `None` where they cannot be known.
fn all() -> Option<Spills> {
    inodes().map(|inodes| Spills(inodes.clone()))
}

/// The same for whoever leaves everything alone that is not known to be ours.
pub(crate) fn known() -> Spills {
    all().unwrap_or_default()
}

/// Remembers a file of which something is now mapped.
pub(crate) fn add(inode: u64) {
    if let Some(mut inodes) = inodes() {
        inodes.insert(inode);
    }
}

/// Bytes that are in spill files now. `None` when the files or the kernel's table cannot be read; a
/// quick reading does not read the table.
pub(crate) fn parked(proc: &Path, detail: Detail) -> Option<Bytes> {
    let spills = all()?;
    if spills.0.is_empty() {
        return Some(Bytes::ZERO);
    }
    if detail == Detail::Quick {
        return None;
    }
    let content = read_up_to(&proc.join("self/maps"), MAPS_LIMIT)?;
    let areas: Vec<Area> =
        content.split(|&byte| byte == b'\n').filter_map(areas::parse_head).collect();
    forget_unmapped(&spills, &areas);
    Some(mapped(&spills, &areas).map(size).sum())
}

/// Bytes of parked memory that are in RAM again, because they were read or written since.
pub(crate) fn back_in_memory(areas: &[Area]) -> Bytes {
    mapped(&known(), areas).map(|area| area.resident).sum()
}

fn mapped<'a>(spills: &'a Spills, areas: &'a [Area]) -> impl Iterator<Item = &'a Area> {
    areas.iter().filter(|area| spills.contains(area))
}

fn size(area: &Area) -> Bytes {
    Bytes((area.end - area.start) as u64)
}

fn forget_unmapped(spills: &Spills, areas: &[Area]) {
    let alive: BTreeSet<u64> = mapped(spills, areas).map(|area| area.inode).collect();
    if let Some(mut inodes) = inodes() {
        // Files made since the table was read are not among `spills`, and stay.
        inodes.retain(|inode| alive.contains(inode) || !spills.0.contains(inode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_known_whoever_else_looks() {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert!((0..20_000).all(|_| all().is_some())));
            }
        });
    }
}
