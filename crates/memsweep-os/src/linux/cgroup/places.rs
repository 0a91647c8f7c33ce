//! Which groups this process is in, where their hierarchies are mounted, and the path between.
//!
//! In a container, group and mount may be described relative to different roots. A `..` is never
//! followed: a path either lies beneath the mount or it is unknown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::Version;
use crate::Roots;
use crate::linux::text::unescape;

/// A mount of a hierarchy that may control memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) version: Version,
    /// The group that `point` shows, as a path in the hierarchy.
    pub(crate) root: Vec<u8>,
    pub(crate) point: PathBuf,
}

/// Our group in each hierarchy that may control memory. Lines read `4:memory:/path`, and
/// `0::/path` for version 2.
pub(crate) fn parse_membership(content: &[u8]) -> Vec<(Version, Vec<u8>)> {
    let mut groups = Vec::new();
    for line in content.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if number == b"0" && controllers.is_empty() {
            groups.push((Version::Two, path.to_vec()));
        } else if controllers.split(|&byte| byte == b',').any(|name| name == b"memory") {
            groups.push((Version::One, path.to_vec()));
        }
    }
    groups
}

/// Lines read `31 23 0:28 /root /point options [optional fields] - type source super-options`.
pub(crate) fn parse_mounts(content: &[u8]) -> Vec<Mount> {
    content.split(|&byte| byte == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    // Only blanks separate fields: a name may hold any other byte, and a source may be empty.
    let mut fields = line.split(|&byte| byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let version = match fields.next()? {
        b"cgroup2" => Version::Two,
        b"cgroup" => Version::One,
        _ => return None,
    };
    let options = fields.nth(1)?;
    if version == Version::One && !options.split(|&byte| byte == b',').any(|o| o == b"memory") {
        return None;
    }
    let escaped = b" \t\n\\#";
    let point = PathBuf::from(OsStr::from_bytes(&unescape(point, escaped)));
    Some(Mount { version, root: unescape(root, escaped), point })
}

/// Where the hierarchies usually are, in case the mount table cannot be read.
pub(super) fn usual_mounts() -> Vec<Mount> {
    let mount =
        |version, point| Mount { version, root: b"/".to_vec(), point: Path::new(point).into() };
    vec![mount(Version::Two, "/sys/fs/cgroup"), mount(Version::One, "/sys/fs/cgroup/memory")]
}

/// The mount point as a path that we may open.
pub(crate) fn beneath_roots(point: &Path, roots: &Roots, live: bool) -> Option<PathBuf> {
    if let Ok(rest) = point.strip_prefix("/sys") {
        let plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
        return plain.then(|| roots.sys.join(rest));
    }
    live.then(|| point.to_path_buf())
}

/// A group's path: how many levels above our own root it starts, then names.
#[derive(Debug, PartialEq, Eq)]
struct GroupPath<'a> {
    levels_up: usize,
    names: Vec<&'a [u8]>,
}

fn parse_group_path(path: &[u8]) -> Option<GroupPath<'_>> {
    let mut parsed = GroupPath { levels_up: 0, names: Vec::new() };
    for name in path.strip_prefix(b"/")?.split(|&byte| byte == b'/') {
        match name {
            b"" => {}
            b".." if parsed.names.is_empty() => parsed.levels_up += 1,
            // The kernel writes only leading dots; anything else did not come from the kernel.
            b"." | b".." => return None,
            _ if name.contains(&0) => return None,
            _ => parsed.names.push(name),
        }
    }
    Some(parsed)
}

/// Our group's path below the mount point. Empty when only the mount point itself is known to
/// apply, `None` when the mount shows a part of the tree that we are not in.
pub(crate) fn path_below_mount(root: &[u8], group: &[u8]) -> Option<PathBuf> {
    let (root, group) = (parse_group_path(root)?, parse_group_path(group)?);
    if root.levels_up > group.levels_up {
        // Mounted from further up than our namespace shows: an ancestor if no name follows.
        return root.names.is_empty().then(PathBuf::new);
    }
    if root.levels_up < group.levels_up {
        return None;
    }
    match group.names.strip_prefix(root.names.as_slice()) {
        Some(names) => Some(names.iter().map(|name| OsStr::from_bytes(name)).collect()),
        // A container that has its own group mounted but sees the host's name for it. What is
        // mounted there is the container's group, as the JDK assumes too.
        None if group.levels_up == 0 => Some(PathBuf::new()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn membership_names_the_memory_hierarchies() {
        let content = b"9:name=systemd:/\n4:cpu,memory:/a:b\n3:cpuset:/x\n0::/c\nbroken\n";
        assert_eq!(
            parse_membership(content),
            [(Version::One, b"/a:b".to_vec()), (Version::Two, b"/c".to_vec())]
        );
    }

    #[test]
    fn mounts_of_memory_hierarchies_are_found() {
        let content = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            35 31 0:32 /a\\040b /sys/fs/cgroup/memory rw master:1 shared:2 - cgroup cgroup rw,memory\n\
            36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
            42 31 0:38 /";
        assert_eq!(
            parse_mounts(content),
            [
                Mount {
                    version: Version::One,
                    root: b"/a b".to_vec(),
                    point: "/sys/fs/cgroup/memory".into()
                },
                Mount {
                    version: Version::Two,
                    root: b"/".to_vec(),
                    point: "/sys/fs/cgroup/unified".into()
                },
            ]
        );
    }

    #[test]
    fn only_blanks_separate_the_fields_of_a_mount() {
        let mount = |root: &[u8], point: &str| Mount {
            version: Version::Two,
            root: root.to_vec(),
            point: point.into(),
        };
        // The kernel escapes blanks, tabs, line ends and backslashes of a name, and no other byte.
        let content = b"41 31 0:38 /a\x0cb /sys/fs/c\rd rw - cgroup2 cgroup2 rw\n\
            42 31 0:39 / /sys/fs/e rw - cgroup2  rw\n";
        assert_eq!(
            parse_mounts(content),
            [mount(b"/a\x0cb", "/sys/fs/c\rd"), mount(b"/", "/sys/fs/e")]
        );
    }

    #[test]
    fn paths_stay_below_the_mount() {
        for (root, group, below) in [
            ("/", "/", Some("")),
            ("/", "/a/b", Some("a/b")),
            ("/a", "/a/b", Some("b")),
            ("/a", "/a", Some("")),
            ("/docker/x", "/other", Some("")),
            ("/ab", "/abc", Some("")),
            ("/", "/../..", None),
            ("/", "/../other", None),
            ("/..", "/", Some("")),
            ("/../..", "/../x", Some("")),
            ("/../sibling", "/", None),
            ("/../a", "/../a/b", Some("b")),
            ("/../a", "/../b", None),
            ("/", "/a/../../../etc", None),
            ("/", "/a/./b", None),
            ("/", "relative", None),
            ("/", "//a//b", Some("a/b")),
        ] {
            let expected = below.map(PathBuf::from);
            assert_eq!(
                path_below_mount(root.as_bytes(), group.as_bytes()),
                expected,
                "{root} {group}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            let _ = parse_membership(&content);
            let _ = parse_mounts(&content);
        }

        #[test]
        fn no_group_name_leaves_the_mount(
            root in "(/|(/(a|b|\\.\\.|\\.)){1,4})",
            group in "(/|(/(a|b|c|\\.\\.|\\.)){1,6})",
        ) {
            if let Some(below) = path_below_mount(root.as_bytes(), group.as_bytes()) {
                prop_assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
