//! Which files this process has mapped, from `/proc/self/maps`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::text::{parse_number, parse_single_number, read_small, read_up_to, unescape, words};

/// 65530 mappings, the kernel's default limit, with long names.
const MAPS_LIMIT: u64 = 64 * 1024 * 1024;

/// A mapped file. One file can be mapped under several names, and its name may belong to another
/// file by now, so name and number are both kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MappedFile {
    pub(crate) path: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

/// How many mappings this process has.
pub(crate) fn count(proc: &Path) -> Option<u64> {
    let content = read_up_to(&proc.join("self/maps"), MAPS_LIMIT)?;
    Some(content.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// How many the kernel allows.
pub(crate) fn limit(proc: &Path) -> Option<u64> {
    read_up_to(&proc.join("sys/vm/max_map_count"), 64)
        .and_then(|content| parse_single_number(&content))
}

/// `None` when the table cannot be read, so that it is unknown what is mapped.
pub(crate) fn read(proc: &Path) -> Option<BTreeSet<MappedFile>> {
    read_up_to(&proc.join("self/maps"), MAPS_LIMIT).map(|content| parse(&content))
}

/// The mapped regular files below some folders and not below others, of which some hundred libraries of the
/// program usually are none: what a file is costs a system call.
pub(crate) fn regular_files(proc: &Path, below: &[&Path], except: &[&Path]) -> Vec<String> {
    let asked = [&[proc], below, except].map(|paths| paths.iter().map(|&one| one.into()).collect());
    let in_memory = read_small(&proc.join("self/statm")).and_then(|text| parse_shared(&text));
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last) = last.as_ref().filter(|last| last.asked == asked)
        && in_memory.is_some_and(|pages| pages == last.in_memory)
    {
        return last.found.clone();
    }
    let found = look(proc, below, except);
    *last = in_memory.map(|in_memory| Last { asked, in_memory, found: found.clone() });
    found
}

/// What was found last. The kernel takes milliseconds to list the mappings of a large program, and a loop asks
/// in every turn.
///
/// Where as many pages of mapped files are in memory as then, the same files are taken to be mapped. If that is
/// wrong, the page cache of a file stays, or is dropped although nothing unmapped it just now; the file is
/// looked at once more before that.
struct Last {
    /// Which process, and below and outside which folders.
    asked: [Vec<PathBuf>; 3],
    in_memory: u64,
    found: Vec<String>,
}

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// Pages of mapped files and of shared memory.
fn parse_shared(statm: &[u8]) -> Option<u64> {
    words(statm).nth(2).and_then(parse_number)
}

fn look(proc: &Path, below: &[&Path], except: &[&Path]) -> Vec<String> {
    // Mappings show no symbolic links.
    let real = |folders: &[&Path]| -> Vec<PathBuf> {
        folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect()
    };
    let (below, except) = (real(below), real(except));
    let is_in = |path: &Path, folders: &[PathBuf]| folders.iter().any(|one| path.starts_with(one));
    let mut files: Vec<String> = read(proc)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|file| String::from_utf8(file.path).ok())
        .filter(|path| is_in(path.as_ref(), &below) && !is_in(path.as_ref(), &except))
        // Devices can be mapped too, and names from another mount namespace may not exist here.
        .filter(|path| Path::new(path).metadata().is_ok_and(|data| data.is_file()))
        .collect();
    files.dedup();
    files
}

pub(crate) fn parse(content: &[u8]) -> BTreeSet<MappedFile> {
    content.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `7f12a000-7f12b000 r--p 00000000 fe:00 1234     /name with blanks`.
fn parse_line(line: &[u8]) -> Option<MappedFile> {
    let mut parts = line.splitn(6, |&byte| byte == b' ');
    let device = parse_device(parts.nth(3)?)?;
    let inode = parse_number(parts.next()?)?;
    let name = parts.next()?.trim_ascii_start();
    if inode == 0 || !name.starts_with(b"/") || name.ends_with(b" (deleted)") {
        return None;
    }
    // In this file the kernel escapes only line ends; a backslash is part of the name.
    Some(MappedFile { path: unescape(name, b"\n"), device, inode })
}

fn parse_device(text: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (major, minor) = text.split_once(':')?;
    Some((u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
}

impl MappedFile {
    pub(crate) fn is(&self, path: &Path, device: (u32, u32), inode: u64) -> bool {
        // btrfs and overlayfs show another device number here than `stat` does, so an equal name is
        // enough as well.
        OsStr::from_bytes(&self.path) == path.as_os_str()
            || (self.device == device && self.inode == inode)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_files_that_still_have_their_name_are_listed() {
        let content = b"\
            55d0-55d1 r--p 00000000 fe:00 11                         /usr/bin/a b\n\
            55d1-55d2 r-xp 00001000 fe:00 11                         /usr/bin/a b\n\
            55d2-55d3 rw-p 00000000 00:00 0                          [heap]\n\
            55d3-55d4 rw-p 00000000 00:00 0 \n\
            55d4-55d5 r--s 00000000 103:0a 18446744073709551615      /models/x\\012y\\040z\n\
            55d5-55d6 rw-s 00000000 00:01 12                         /memfd:x (deleted)\n\
            55d6-55d7 r--p 00000000 fe:00 13                         /tmp/gone (deleted)\n\
            55d7-55d8 r--p 00000000 fe:00 -1                         /negative\n\
            55d8-55d9 r--p 00000000 zz:00 14                         /device\n\
            55d9-55da r--p 00000000 fe:00 15                         anon_inode:[x]\n\
            55da-55db r--p 00000000 fe:00 16                         /cut";
        let names: Vec<_> =
            parse(content).into_iter().map(|file| String::from_utf8(file.path).unwrap()).collect();
        assert_eq!(names, ["/cut", "/models/x\ny\\040z", "/usr/bin/a b"]);
    }

    #[test]
    fn a_file_is_recognised_by_name_or_by_number() {
        let file = MappedFile { path: b"/a".to_vec(), device: (254, 0), inode: 7 };
        assert!(file.is(Path::new("/a"), (0, 1), 8));
        assert!(file.is(Path::new("/b"), (254, 0), 7));
        assert!(!file.is(Path::new("/b"), (254, 0), 8));
        assert!(!file.is(Path::new("/b"), (254, 1), 7));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            for file in parse(&content) {
                prop_assert!(file.path.starts_with(b"/"));
            }
        }

        #[test]
        fn any_name_parses(name: Vec<u8>) {
            let line = [b"1-2 r--p 0 fe:00 1 /", &name[..]].concat();
            let _ = parse(&line);
        }
    }
}
