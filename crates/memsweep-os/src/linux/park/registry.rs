//! The spill files of this process. What is still mapped of them is asked of the kernel each time:
//! memory may have been freed, moved or unmapped since, and nobody tells us.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use memsweep_core::bytes::Bytes;

use super::areas::{self, Area};
use crate::Detail;
use crate::linux::text::read_up_to;

const MAPS_LIMIT: u64 = 64 * 1024 * 1024;

static INODES: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// Spill files by their inode. Their mappings carry the name that the kernel gives to files
/// without one, so that an inode used again for another file is not taken for one of ours. The
/// device number is left out: btrfs and overlayfs show another one here than `stat` does.
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

/// All files that were made and may still be mapped. A forked child may have inherited the lock
/// while it was held; it then knows of none, and leaves everything alone.
pub(crate) fn known() -> Spills {
    INODES.try_lock().map(|inodes| Spills(inodes.clone())).unwrap_or_default()
}

/// Remembers a file, once something of it is mapped.
pub(crate) fn add(inode: u64) {
    // Never without end, for the sake of that child.
    for _ in 0..1000 {
        if let Ok(mut inodes) = INODES.try_lock() {
            inodes.insert(inode);
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Bytes that lie in spill files now. `None` when the kernel's table cannot be read, which a quick
/// reading does not ask for.
pub(crate) fn parked(proc: &Path, detail: Detail) -> Option<Bytes> {
    let spills = known();
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

/// Bytes of spill files that are in memory again: read since, or written and now beside the file.
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
    if let Ok(mut inodes) = INODES.try_lock() {
        // Files made since the table was read are not among `spills`, and stay.
        inodes.retain(|inode| alive.contains(inode) || !spills.0.contains(inode));
    }
}
