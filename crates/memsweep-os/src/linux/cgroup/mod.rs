//! The memory limit that applies to us: the smallest over our control group and its ancestors,
//! in version 1, version 2, or both at once (hybrid).
//!
//! Our group comes from `/proc/self/cgroup`, the place of its files from `/proc/self/mountinfo`.

mod limits;
mod places;

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

/// The tightest limit, or `None` when there is none or it cannot be known.
/// `live` allows mount points outside the roots, which fixture trees cannot have.
pub(crate) fn tightest(roots: &Roots, live: bool) -> Option<Tightest> {
    let groups = places::parse_membership(&read_small(&roots.proc.join("self/cgroup"))?);
    let mounts = read_up_to(&roots.proc.join("self/mountinfo"), MOUNTINFO_LIMIT)
        .map(|content| places::parse_mounts(&content))
        .filter(|mounts| !mounts.is_empty())
        .unwrap_or_else(places::usual_mounts);
    let mut tightest: Option<Tightest> = None;
    for mount in &mounts {
        for (version, group) in groups.iter().filter(|(version, _)| *version == mount.version) {
            let point = places::beneath_roots(&mount.point, roots, live);
            let below = places::path_below_mount(&mount.root, group);
            if let (Some(point), Some(below)) = (point, below) {
                for found in limits::limits(*version, &point, &below) {
                    tightest = Some(tightest.map_or(found, |best| best.tighter(found)));
                }
            }
        }
    }
    tightest
}
