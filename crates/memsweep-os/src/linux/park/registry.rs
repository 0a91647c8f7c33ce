//! The spill files of this process. The kernel is asked each time what of them is still mapped:
//! memory may have been freed, moved or unmapped without our knowing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use memsweep_core::bytes::Bytes;

use super::areas::{self, Area};
use crate::Detail;
use crate::linux::text::read_up_to;

const MAPS_LIMIT: u64 = 64 * 1024 * 1024;

static FILES: Mutex<Spills> = Mutex::new(Spills { inodes: BTreeSet::new(), added: 0 });

/// The process that waited in vain for the lock: a child, forked while another thread had it.
static ORPHAN: AtomicU32 = AtomicU32::new(0);

/// Spill files by their inode. Their mappings have the name that the kernel gives to nameless
/// files, so another file that gets the same inode later is not mistaken for one of ours. The
/// device number is not compared: btrfs and overlayfs show another one here than `stat` does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spills {
    inodes: BTreeSet<u64>,
    /// How many files were made so far: an inode may be one that was used before.
    added: u64,
}

impl Spills {
    #[cfg(test)]
    pub(crate) fn of(inodes: &[u64]) -> Self {
        Self { inodes: inodes.iter().copied().collect(), added: 0 }
    }

    pub(crate) fn contains(&self, area: &Area) -> bool {
        self.inodes.contains(&area.inode)
            && area.name.ends_with(format!("/#{} (deleted)", area.inode).as_bytes())
    }
}

/// What a lock guards, while nobody else changes it. Others hold it for microseconds. `None`: in a child
/// that was forked meanwhile nobody gives it up, so that one waits once, and not for ever.
pub(super) fn lock<T>(guarded: &'static Mutex<T>) -> Option<MutexGuard<'static, T>> {
    let is_orphan = ORPHAN.load(Ordering::Relaxed) == process::id();
    for _ in 0..if is_orphan { 1 } else { 1000 } {
        match guarded.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Ok(found) => return Some(found),
        }
    }
    ORPHAN.store(process::id(), Ordering::Relaxed);
    None
}

fn files() -> Option<MutexGuard<'static, Spills>> {
    lock(&FILES)
}

/// All files that were made and may still be mapped; `None` where that cannot be known.
pub(crate) fn known() -> Option<Spills> {
    files().map(|files| files.clone())
}

/// Remembers a file of which something is now mapped.
pub(crate) fn add(inode: u64) {
    if let Some(mut files) = files() {
        files.inodes.insert(inode);
        files.added += 1;
    }
}

/// Bytes that are in spill files now. `None` when the files or the kernel's table cannot be read; a
/// quick reading does not read the table.
pub(crate) fn parked(proc: &Path, detail: Detail) -> Option<Bytes> {
    let spills = known()?;
    if spills.inodes.is_empty() {
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
pub(crate) fn back_in_memory(areas: &[Area]) -> Option<Bytes> {
    Some(mapped(&known()?, areas).map(|area| area.resident).sum())
}

fn mapped<'a>(spills: &'a Spills, areas: &'a [Area]) -> impl Iterator<Item = &'a Area> {
    areas.iter().filter(|area| spills.contains(area))
}

fn size(area: &Area) -> Bytes {
    Bytes((area.end - area.start) as u64)
}

fn forget_unmapped(spills: &Spills, areas: &[Area]) {
    let alive: BTreeSet<u64> = mapped(spills, areas).map(|area| area.inode).collect();
    if let Some(mut files) = files() {
        // A file made since the table was read is not in it, whatever its inode was before.
        if files.added == spills.added {
            files.inodes.retain(|inode| alive.contains(inode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_known_whoever_else_looks() {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert!((0..20_000).all(|_| known().is_some())));
            }
        });
    }
}
