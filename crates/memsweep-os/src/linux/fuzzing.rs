//! The parsers of the kernel's files, for the fuzz targets only: built with `--cfg fuzzing` and
//! never in a wheel. It adds nothing of its own; the targets say what must hold.

use std::path::{Path, PathBuf};

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};

use super::{cgroup, machine, maps, park, process};
use crate::Roots;

/// A mount of a control group hierarchy: its group, and where it is seen.
pub type Mount = (Version, Vec<u8>, PathBuf);

/// Version 1 or 2 of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 1.
    One,
    /// Version 2.
    Two,
}

impl Version {
    fn inside(self) -> cgroup::Version {
        match self {
            Self::One => cgroup::Version::One,
            Self::Two => cgroup::Version::Two,
        }
    }

    fn outside(version: cgroup::Version) -> Self {
        match version {
            cgroup::Version::One => Self::One,
            cgroup::Version::Two => Self::Two,
        }
    }
}

/// `/proc/self/status`.
#[must_use]
pub fn status(content: &[u8]) -> ProcessMemory {
    process::parse(content)
}

/// `/proc/meminfo`.
#[must_use]
pub fn meminfo(content: &[u8]) -> MachineMemory {
    machine::parse(content)
}

/// `/proc/pressure/memory`.
#[must_use]
pub fn pressure(content: &[u8]) -> Option<f64> {
    machine::parse_pressure(content)
}

/// `/proc/self/smaps`: where each mapping begins and ends.
#[must_use]
pub fn areas(content: &[u8]) -> Vec<(usize, usize)> {
    park::areas(content).into_iter().map(|area| (area.start, area.end)).collect()
}

/// `/proc/self/maps`: path and inode of each file.
#[must_use]
pub fn mapped(content: &[u8]) -> Vec<(Vec<u8>, u64)> {
    maps::parse(content).into_iter().map(|file| (file.path, file.inode)).collect()
}

/// `/proc/self/cgroup`.
#[must_use]
pub fn membership(content: &[u8]) -> Vec<(Version, Vec<u8>)> {
    let groups = cgroup::parse_membership(content).into_iter();
    groups.map(|(version, group)| (Version::outside(version), group)).collect()
}

/// `/proc/self/mountinfo`.
#[must_use]
pub fn mounts(content: &[u8]) -> Vec<Mount> {
    let mounts = cgroup::parse_mounts(content).into_iter();
    mounts.map(|mount| (Version::outside(mount.version), mount.root, mount.point)).collect()
}

/// A file with a limit.
#[must_use]
pub fn limit(version: Version, content: &[u8]) -> Option<Bytes> {
    cgroup::parse_limit(version.inside(), content)
}

/// A group's path below the mount that shows `root`.
#[must_use]
pub fn below_mount(root: &[u8], group: &[u8]) -> Option<PathBuf> {
    cgroup::path_below_mount(root, group)
}

/// A mount point as a path that may be opened.
#[must_use]
pub fn beneath_roots(point: &Path, roots: &Roots) -> Option<PathBuf> {
    cgroup::beneath_roots(point, roots, false)
}
