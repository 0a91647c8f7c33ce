//! The memory limit that applies to us: the smallest of our control group and its ancestors, in
//! version 1, version 2, or both at once (hybrid).
//!
//! Our group comes from `/proc/self/cgroup`, the place of its files from `/proc/self/mountinfo`.

mod limits;
mod places;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) use self::limits::Tightest;
#[cfg(fuzzing)]
pub(super) use self::limits::parse_limit;
#[cfg(fuzzing)]
pub(super) use self::places::{beneath_roots, parse_membership, parse_mounts, path_below_mount};
use super::text::{read_small, read_up_to};
use crate::Roots;

/// Mount tables of container hosts hold thousands of lines.
const MOUNTINFO_LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Version {
    const fn limit_file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }

    const fn usage_file(self) -> &'static str {
        match self {
            Self::One => "memory.usage_in_bytes",
            Self::Two => "memory.current",
        }
    }
}

/// Our groups as they were last looked up. Their limits are read each time.
#[derive(Debug)]
pub(crate) struct Groups {
    /// The content of `/proc/self/cgroup` then.
    membership: Vec<u8>,
    found: Vec<Group>,
}

/// Our group in one hierarchy.
#[derive(Debug)]
struct Group {
    version: Version,
    /// Where the hierarchy is mounted.
    point: PathBuf,
    /// Device and inode of what was mounted there.
    folder: Option<(u64, u64)>,
    /// Our group's path beneath it.
    below: PathBuf,
}

impl Groups {
    /// `live` allows mount points outside the roots, which fixture trees cannot have. `None` where
    /// it is unknown which groups we are in.
    pub(crate) fn find(roots: &Roots, live: bool) -> Option<Self> {
        let membership = membership(roots)?;
        let mounts = read_up_to(&roots.proc.join("self/mountinfo"), MOUNTINFO_LIMIT)
            .map(|content| places::parse_mounts(&content))
            .filter(|mounts| !mounts.is_empty())
            .unwrap_or_else(places::usual_mounts);
        let groups = places::parse_membership(&membership);
        let mut found = Vec::new();
        for mount in &mounts {
            for (version, group) in groups.iter().filter(|(version, _)| *version == mount.version) {
                let point = places::beneath_roots(&mount.point, roots, live);
                let below = places::path_below_mount(&mount.root, group);
                if let (Some(point), Some(below)) = (point, below) {
                    let folder = identity(&point);
                    found.push(Group { version: *version, point, folder, below });
                }
            }
        }
        Some(Self { membership, found })
    }

    /// Whether we are still in these groups, and the same folders are still mounted there. Does not
    /// notice that a hierarchy was mounted in a second place.
    pub(crate) fn still_hold(&self, roots: &Roots) -> bool {
        membership(roots).is_some_and(|now| now == self.membership)
            && self.found.iter().all(|group| identity(&group.point) == group.folder)
    }

    /// The tightest limit, or `None` when there is none or it cannot be known.
    pub(crate) fn tightest(&self) -> Option<Tightest> {
        self.found
            .iter()
            .flat_map(|group| limits::limits(group.version, &group.point, &group.below))
            .reduce(Tightest::tighter)
    }
}

fn membership(roots: &Roots) -> Option<Vec<u8>> {
    read_small(&roots.proc.join("self/cgroup"))
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let data = fs::metadata(folder).ok()?;
    Some((data.dev(), data.ino()))
}
