//! RAM of this process, from `/proc/self/status`.
//!
//! Deliberately not `smaps_rollup`: it walks the page tables with the lock of the memory map held,
//! 83 ms for 4 GiB and seconds for large processes, which stalls the process.

use std::path::Path;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::ProcessMemory;

use super::text::{keyed_lines, parse_kib, read_small};

pub(crate) fn read(proc: &Path) -> ProcessMemory {
    read_small(&proc.join("self/status")).map(|content| parse(&content)).unwrap_or_default()
}

/// Whether a driver has page-locked memory of this process (`VmPin`): the kernel reports how much,
/// but not where. `true` if that cannot be read.
pub(crate) fn driver_locked(proc: &Path) -> bool {
    let Some(content) = read_small(&proc.join("self/status")) else { return true };
    keyed_lines(&content)
        .any(|(key, value)| key == b"VmPin" && parse_kib(value) != Some(Bytes::ZERO))
}

pub(super) fn parse(content: &[u8]) -> ProcessMemory {
    let mut memory = ProcessMemory::default();
    let (mut locked, mut pinned) = (None, None);
    for (key, value) in keyed_lines(content) {
        let field = match key {
            b"VmRSS" => &mut memory.resident,
            b"RssAnon" => &mut memory.anonymous,
            b"RssFile" => &mut memory.file_backed,
            b"RssShmem" => &mut memory.shared,
            b"VmSwap" => &mut memory.swapped,
            b"VmLck" => &mut locked,
            b"VmPin" => &mut pinned,
            _ => continue,
        };
        *field = field.or_else(|| parse_kib(value));
    }
    memory.page_locked = sum_of_known(locked, pinned);
    memory
}

/// `VmLck` counts `mlock`, `VmPin` what drivers pinned. Old kernels have only the first.
fn sum_of_known(locked: Option<Bytes>, pinned: Option<Bytes>) -> Option<Bytes> {
    match (locked, pinned) {
        (Some(locked), Some(pinned)) => Some(locked.plus(pinned)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &str = "Name:\tpython3\nUmask:\t0022\nVmPeak:\t  999 kB\nVmLck:\t     4 kB\n\
        VmPin:\t      8 kB\nVmRSS:\t   300 kB\nRssAnon:\t     200 kB\nRssFile:\t      90 kB\n\
        RssShmem:\t      10 kB\nVmSwap:\t       0 kB\nThreads:\t1\n";

    fn check(content: &[u8], expected: &ProcessMemory) {
        assert_eq!(&parse(content), expected, "{}", String::from_utf8_lossy(content));
    }

    fn full() -> ProcessMemory {
        ProcessMemory {
            resident: Some(Bytes::from_kib(300)),
            anonymous: Some(Bytes::from_kib(200)),
            file_backed: Some(Bytes::from_kib(90)),
            shared: Some(Bytes::from_kib(10)),
            swapped: Some(Bytes::ZERO),
            page_locked: Some(Bytes::from_kib(12)),
            ..ProcessMemory::default()
        }
    }

    #[test]
    fn every_number_is_read_or_unknown_by_itself() {
        check(STATUS.as_bytes(), &full());
        check(b"", &ProcessMemory::default());
        let without = |line: &str| STATUS.replace(line, "").into_bytes();
        check(&without("VmRSS:\t   300 kB\n"), &ProcessMemory { resident: None, ..full() });
        for broken in ["-300 kB", "99999999999999999999 kB", "x kB", "300 MB", "300"] {
            let content = STATUS.replace("300 kB", broken);
            check(content.as_bytes(), &ProcessMemory { resident: None, ..full() });
        }
        check(
            &without("VmPin:\t      8 kB\n"),
            &ProcessMemory { page_locked: Some(Bytes::from_kib(4)), ..full() },
        );
        check(
            &without("VmLck:\t     4 kB\n"),
            &ProcessMemory { page_locked: Some(Bytes::from_kib(8)), ..full() },
        );
    }

    #[test]
    fn a_cut_file_loses_only_what_is_cut() {
        let cut = STATUS.find("90 kB").unwrap() + 1;
        check(
            &STATUS.as_bytes()[..cut],
            &ProcessMemory { file_backed: None, shared: None, swapped: None, ..full() },
        );
    }

    #[test]
    fn bytes_that_are_not_text_spoil_their_line_only() {
        let mut content = b"Name:\t\xff\xfe\nVmRSS:\t \xff kB\n".to_vec();
        content.extend_from_slice(b"RssAnon:\t 7 kB\n");
        check(
            &content,
            &ProcessMemory { anonymous: Some(Bytes::from_kib(7)), ..ProcessMemory::default() },
        );
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            let _ = parse(&content);
        }

        #[test]
        fn a_spoiled_file_never_panics(at in 0..STATUS.len(), byte: u8) {
            let mut content = STATUS.as_bytes().to_vec();
            content[at] = byte;
            let _ = parse(&content);
        }
    }
}
