//! The processes that this one has started, and those that they have started, from
//! `/proc/<pid>/status`.
//!
//! A process that ends meanwhile is left out. One file says whose child it is and how much it has, so
//! that a number that is given away again cannot mix two processes up.

use std::path::Path;

use memsweep_core::bytes::Bytes;
use memsweep_core::rest::Child;

use super::process;
use super::text::{keyed_lines, parse_kib, parse_single_number, read_small};

/// How much of them is asked for what it shares with others, together: the kernel takes 20 ms for
/// each GiB, in which it holds the child's map of memory.
const MOST_WALKED: Bytes = Bytes(1024 * Bytes::MIB);

pub(crate) fn read(proc: &Path) -> Vec<Child> {
    if has_none(&proc.join("self")) {
        return Vec::new();
    }
    let Some(own) = status(&proc.join("self")) else { return Vec::new() };
    let Ok(folders) = std::fs::read_dir(proc) else { return Vec::new() };
    let numbered = folders.flatten().filter(|folder| {
        folder.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    let mut others: Vec<Status> = numbered.filter_map(|folder| status(&folder.path())).collect();
    let mut family = vec![own];
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|one| one.pid) {
        family.extend(others.extract_if(.., |one| one.parent == parent && one.pid != parent));
        at += 1;
    }
    let mut left = MOST_WALKED;
    family.drain(1..).filter_map(|one| one.child(proc, &mut left)).collect()
}

/// Whether a process certainly has no children: each of its threads lists its own. Not every kernel has the
/// lists. Most programs have none, and to look at every process of a machine takes milliseconds.
fn has_none(folder: &Path) -> bool {
    let Ok(threads) = std::fs::read_dir(folder.join("task")) else { return false };
    let mut lists = threads.flatten().map(|thread| std::fs::read(thread.path().join("children")));
    lists.all(|list| list.is_ok_and(|list| list.is_empty()))
}

struct Status {
    pid: u32,
    parent: u32,
    name: String,
    resident: Option<Bytes>,
}

fn status(folder: &Path) -> Option<Status> {
    let content = read_small(&folder.join("status"))?;
    let value = |wanted: &[u8]| {
        let found = keyed_lines(&content).find(|(key, _)| *key == wanted);
        found.map(|(_, value)| value.trim_ascii())
    };
    let number = |key: &[u8]| u32::try_from(parse_single_number(value(key)?)?).ok();
    Some(Status {
        pid: number(b"Pid")?,
        parent: number(b"PPid")?,
        name: String::from_utf8_lossy(value(b"Name").unwrap_or_default()).into_owned(),
        resident: process::parse(&content).resident,
    })
}

impl Status {
    /// `None` for one that has ended and was not asked for how yet: it has no memory.
    fn child(self, proc: &Path, left: &mut Bytes) -> Option<Child> {
        let Self { pid, name, resident, .. } = self;
        let resident = resident?;
        let mut proportional = None;
        if let Some(less) = left.0.checked_sub(resident.0) {
            *left = Bytes(less);
            proportional = pss(&proc.join(pid.to_string()));
        }
        Some(Child { pid, name, resident, proportional })
    }
}

fn pss(folder: &Path) -> Option<Bytes> {
    let content = read_small(&folder.join("smaps_rollup"))?;
    keyed_lines(&content).find(|(key, _)| *key == b"Pss").and_then(|(_, value)| parse_kib(value))
}
