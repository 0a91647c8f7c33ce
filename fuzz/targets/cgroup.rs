//! Control groups: membership, mount table and limit, one after the other, and mount points with
//! any name. No path leaves its mount, and no limit is made up.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use memsweep_fuzz::{bytes, decimal, kernel_escapes, parts};
use memsweep_os::Roots;
use memsweep_os::fuzzing::{self, Version};

/// What version 1 says where there is no limit, on a machine with the largest pages.
const UNLIMITED: u64 = 0x7FFF_FFFF_FFFF_0000;

fuzz_target!(|content: &[u8]| {
    let [membership, mounts, limit, root, point] = parts(content);
    let groups = fuzzing::membership(membership);
    let mounted = fuzzing::mounts(mounts);
    assert!(groups.len() <= lines(membership));
    assert!(mounted.len() <= lines(mounts));
    for (version, root, point) in &mounted {
        stays_beneath_the_root(point);
        for (_, group) in groups.iter().filter(|(other, _)| other == version) {
            stays_beneath_the_mount(root, group);
        }
    }
    stays_beneath_the_mount(root, point);
    for version in [Version::One, Version::Two] {
        check_limit(version, limit);
    }
    any_name_is_read_back(root, point);
});

fn lines(content: &[u8]) -> usize {
    content.split(|byte| *byte == b'\n').count()
}

fn stays_beneath_the_mount(root: &[u8], group: &[u8]) {
    let Some(below) = fuzzing::below_mount(root, group) else { return };
    for part in below.components() {
        assert!(matches!(part, Component::Normal(_)), "{below:?} leaves its mount");
        let name = part.as_os_str().as_bytes();
        assert!(group.split(|byte| *byte == b'/').any(|one| one == name));
    }
}

fn stays_beneath_the_root(point: &Path) {
    let roots = Roots { proc: "/fixture/proc".into(), sys: "/fixture/sys".into() };
    let Some(opened) = fuzzing::beneath_roots(point, &roots) else { return };
    let beneath = opened
        .strip_prefix(&roots.sys)
        .is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))));
    assert!(beneath, "{opened:?}");
}

fn check_limit(version: Version, content: &[u8]) {
    let text = String::from_utf8_lossy(content.trim_ascii());
    let number = decimal(&text).and_then(bytes);
    let expected = number.filter(|limit| version == Version::Two || limit.0 < UNLIMITED);
    assert_eq!(fuzzing::limit(version, content), expected);
}

/// The kernel escapes these four in a mount table, and nothing else.
fn any_name_is_read_back(root: &[u8], point: &[u8]) {
    let named = |name: &[u8]| [b"/", name].concat();
    let (root, point) = (named(root), named(point));
    let written = |name: &[u8]| kernel_escapes(name, b" \t\n\\");
    let (shown, seen) = (written(&root), written(&point));
    let line = [
        &b"36 31 0:33 "[..],
        &shown[..],
        b" ",
        &seen[..],
        b" rw,nosuid master:1 shared:2 - cgroup2 cgroup2 rw\n",
    ];
    let point = PathBuf::from(OsStr::from_bytes(&point));
    assert_eq!(fuzzing::mounts(&line.concat()), [(Version::Two, root, point)]);
}
