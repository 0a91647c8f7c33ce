//! The process's mappings from `/proc/self/smaps`: where each lies, what it is, and how much of it
//! is in memory.
//!
//! `maps` does not say whether memory is locked, registered with a `userfaultfd` or hidden from
//! children, and replacing such memory would break something. `smaps` walks the page tables, 83 ms
//! for 4 GiB. It is read once for a survey and once before each hold, because nothing else shows these
//! flags, and never for a reading.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use memsweep_core::bytes::Bytes;
use memsweep_core::reason::Refusal;

use crate::linux::text::{keyed_lines, parse_kib, parse_number, words};

/// 65530 mappings, the kernel's default limit, at less than 2 KiB each.
const SMAPS_LIMIT: u64 = 128 * 1024 * 1024;

/// The flags that private memory of a heap may have. Memory with any other flag, known or not, is
/// left alone: among them are `lo` (locked), `ht` (huge pages), `dc` (not copied to children), `wf`
/// (wiped in children), `um` and `uw` (`userfaultfd`), `io` and `pf` (device memory), and `sl`
/// (sealed).
const HARMLESS: [&[u8]; 11] =
    [b"rd", b"wr", b"mr", b"mw", b"me", b"ac", b"sd", b"nr", b"hg", b"nh", b"mg"];

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) permissions: Vec<u8>,
    pub(crate) inode: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) resident: Bytes,
    /// Resident or swapped pages without a file behind them: in a private mapping of a file, those
    /// that were written since it was mapped.
    pub(crate) anonymous: Bytes,
    flags: Vec<u8>,
    /// Has a protection key, which new memory in its place would not have.
    guarded: bool,
}

/// `None` when the table cannot be read.
pub(crate) fn read(proc: &Path) -> Option<Vec<Area>> {
    read_below(proc, usize::MAX)
}

/// The areas that begin below `end`. The rest is not walked, so it costs nothing.
pub(crate) fn read_below(proc: &Path, end: usize) -> Option<Vec<Area>> {
    read_table(&proc.join("self/smaps"), end)
}

/// The same, without what `maps` does not say. Walks no page tables.
pub(crate) fn heads_below(proc: &Path, end: usize) -> Option<Vec<Area>> {
    read_table(&proc.join("self/maps"), end)
}

fn read_table(table: &Path, end: usize) -> Option<Vec<Area>> {
    let mut table = BufReader::new(File::open(table).ok()?.take(SMAPS_LIMIT));
    let (mut areas, mut line) = (Vec::new(), Vec::new());
    while table.read_until(b'\n', &mut line).ok()? > 0 {
        // A line without an end is cut off: the file is too large.
        line.pop_if(|last| *last == b'\n')?;
        add_line(&mut areas, &line);
        if areas.last().is_some_and(|area| area.start >= end) {
            areas.pop();
            break;
        }
        line.clear();
    }
    Some(areas)
}

/// The areas in the order of their addresses, as the kernel lists them.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse(content: &[u8]) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    content.split(|&byte| byte == b'\n').for_each(|line| add_line(&mut areas, line));
    areas
}

fn add_line(areas: &mut Vec<Area>, line: &[u8]) {
    if let Some(area) = parse_head(line) {
        areas.push(area);
    } else if let (Some(area), Some((key, value))) = (areas.last_mut(), keyed_lines(line).next()) {
        let size = || parse_kib(value).unwrap_or_default();
        match key {
            b"Rss" => area.resident = size(),
            b"Anonymous" | b"Swap" => area.anonymous = area.anonymous.plus(size()),
            b"VmFlags" => area.flags = value.trim_ascii().to_vec(),
            b"ProtectionKey" => area.guarded = parse_number(value.trim_ascii()) != Some(0),
            _ => {}
        }
    }
}

/// `7f12a000-7f12b000 rw-p 00000000 00:00 0      [heap]`.
pub(super) fn parse_head(line: &[u8]) -> Option<Area> {
    let mut parts = line.splitn(6, |&byte| byte == b' ');
    let (start, end) = parse_range(parts.next()?)?;
    let permissions = parts.next().filter(|text| text.len() == 4)?.to_vec();
    let inode = parse_number(parts.nth(2)?)?;
    let name = parts.next().unwrap_or_default().trim_ascii().to_vec();
    Some(Area { start, end, permissions, inode, name, ..Area::default() })
}

fn parse_range(text: &[u8]) -> Option<(usize, usize)> {
    let (start, end) = std::str::from_utf8(text).ok()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (start < end).then_some((start, end))
}

impl Area {
    /// Whether `maps` says the same of both.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        let shown = |area: &Self| (area.start, area.end, area.inode);
        shown(self) == shown(other)
            && self.permissions == other.permissions
            && self.name == other.name
    }

    /// Why memory in this area must not be replaced; `None` for private memory of a heap. Where we watch
    /// for writes ourselves, a mark of that is no reason.
    pub(crate) fn refusal(&self, watched: bool) -> Option<Refusal> {
        if self.permissions.last() != Some(&b'p') {
            return Some(Refusal::Shared);
        }
        if !self.permissions.starts_with(b"rw") {
            return Some(Refusal::ReadOnly);
        }
        let flags = || words(&self.flags);
        if flags().any(|flag| flag == b"lo") {
            return Some(Refusal::PageLocked);
        }
        if flags().any(|flag| flag == b"ht") {
            return Some(Refusal::HugePages);
        }
        let is_harmless = |flag| HARMLESS.contains(&flag) || watched && flag == b"uw";
        if self.guarded || self.flags.is_empty() || !flags().all(is_harmless) {
            return Some(Refusal::SpecialMapping);
        }
        None
    }

    /// Why memory in this area is not of the C heap. The caller recognises spill files.
    pub(crate) fn foreign(&self) -> Option<Refusal> {
        let heap = self.name.is_empty()
            || self.name == b"[heap]"
            || self.name.starts_with(b"[anon: glibc");
        match (self.inode, heap) {
            (0, true) => None,
            (0, false) => Some(Refusal::NotOfTheHeap),
            _ => Some(Refusal::MappedFile),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "55d2000-55d8000 rw-p 00000000 00:00 0                  [heap]\n\
        Size:                 24 kB\nRss:                  16 kB\nAnonymous:            12 kB\n\
        Swap:                  4 kB\nVmFlags: rd wr mr mw me ac sd \n\
        7f10000-7f20000 rw-p 00000000 fe:00 77    /var/tmp/#77 (deleted)\n\
        Rss:                   8 kB\nAnonymous:             0 kB\nVmFlags: rd wr mr mw me ac sd\n";

    #[test]
    fn areas_show_what_parking_needs_to_know() {
        let areas = parse(TABLE.as_bytes());
        assert_eq!(areas.len(), 2);
        assert_eq!((areas[0].start, areas[0].end), (0x55d_2000, 0x55d_8000));
        assert_eq!(areas[0].anonymous, Bytes::from_kib(16));
        assert_eq!((areas[0].refusal(false), areas[0].foreign()), (None, None));
        assert_eq!(
            (areas[1].refusal(false), areas[1].foreign()),
            (None, Some(Refusal::MappedFile))
        );
        assert_eq!((areas[1].inode, areas[1].resident), (77, Bytes::from_kib(8)));
    }

    #[test]
    fn special_memory_is_refused() {
        for (line, reason) in [
            ("1000-2000 rw-s 00000000 00:01 5 /dev/zero (deleted)", "shared with other processes"),
            ("1000-2000 r--p 00000000 00:00 0 ", "not writable"),
            ("1000-2000 ---p 00000000 00:00 0 ", "not writable"),
        ] {
            let areas = parse(format!("{line}\nVmFlags: rd wr mr mw me ac\n").as_bytes());
            assert_eq!(
                areas[0].refusal(false).map(|why| why.to_string()).as_deref(),
                Some(reason),
                "{line}"
            );
        }
        for (flags, reason) in [
            ("rd wr mr mw me lo ac", "page-locked"),
            ("rd wr mr mw me ht ac", "in huge pages that cannot be split"),
            ("rd wr mr mw me dc ac", "mapped in a special way"),
            ("rd wr zz", "mapped in a special way"),
            ("rd wr mr mw me ac\nProtectionKey: 2", "mapped in a special way"),
            ("", "mapped in a special way"),
        ] {
            let text = format!("1000-2000 rw-p 00000000 00:00 0 \nVmFlags: {flags}\n");
            let refusal = parse(text.as_bytes())[0].refusal(false).map(|why| why.to_string());
            assert_eq!(refusal.as_deref(), Some(reason), "{flags}");
        }
        let common =
            parse(b"1000-2000 rw-p 00000000 00:00 0 \nVmFlags: rd wr\nProtectionKey:         0\n");
        assert_eq!(common[0].refusal(false), None);
        let named = parse(b"1000-2000 rw-p 00000000 00:00 0      [stack]\n");
        assert_eq!(named[0].foreign(), Some(Refusal::NotOfTheHeap));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            for area in parse(&content) {
                prop_assert!(area.start < area.end);
            }
        }

        #[test]
        fn a_spoiled_table_never_panics(at in 0..TABLE.len(), byte: u8) {
            let mut content = TABLE.as_bytes().to_vec();
            content[at] = byte;
            let _ = parse(&content);
        }
    }
}
