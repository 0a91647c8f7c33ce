//! Reading and parsing the kernel's small text files. The parsers are pure and accept any bytes:
//! they return a value or `None`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memsweep_core::bytes::Bytes;

/// More than any of the small files holds. A larger file is not what we take it for.
const SMALL_FILE_LIMIT: u64 = 1024 * 1024;

/// The content of a small kernel file; `None` when it is missing, unreadable or too large.
pub(crate) fn read_small(path: &Path) -> Option<Vec<u8>> {
    read_up_to(path, SMALL_FILE_LIMIT)
}

pub(crate) fn read_up_to(path: &Path, limit: u64) -> Option<Vec<u8>> {
    // Most are smaller, and come in one read.
    let mut content = Vec::with_capacity(4096);
    File::open(path).ok()?.take(limit + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= limit).then_some(content)
}

/// A plain decimal number: only digits, so no sign, space or exponent, and at most `u64::MAX`.
pub(crate) fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The content of a file that holds one number and a line end.
pub(crate) fn parse_single_number(content: &[u8]) -> Option<u64> {
    parse_number(content.trim_ascii())
}

/// The value of a `Key:  1234 kB` line, given what follows the colon. `None` for any other unit: a
/// number in an unknown unit is an unknown number.
pub(crate) fn parse_kib(value: &[u8]) -> Option<Bytes> {
    let mut words = words(value);
    let number = parse_number(words.next()?)?;
    if words.next()? != b"kB" || words.next().is_some() {
        return None;
    }
    number.checked_mul(Bytes::KIB).map(Bytes)
}

/// Each `Key: value` line, split at the first colon.
pub(crate) fn keyed_lines(content: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    content.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    })
}

/// The words of a line, separated by blanks.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Undoes the kernel's `\ooo` escapes, but only those of bytes in `escaped`: any other backslash is
/// part of the name.
pub(crate) fn unescape(name: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        match escape(rest).filter(|byte| escaped.contains(byte)) {
            Some(byte) => {
                plain.push(byte);
                rest = &rest[4..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

/// The byte that a leading `\ooo` stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = text else {
        return None;
    };
    Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_numbers_are_numbers() {
        for (text, value) in [
            (&b"0"[..], Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"007", Some(7)),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
            (b" 1", None),
            (b"1e3", None),
            (b"0x10", None),
            (b"\xff\xfe", None),
        ] {
            assert_eq!(parse_number(text), value, "{text:?}");
        }
    }

    #[test]
    fn only_kibibytes_that_fit_are_sizes() {
        for (text, value) in [
            (&b"\t    12 kB"[..], Some(Bytes(12 * 1024))),
            (b" 0 kB", Some(Bytes::ZERO)),
            (b" 12", None),
            (b" 12 k", None),
            (b" 12 MB", None),
            (b" 12 kB more", None),
            (b" 18014398509481984 kB", None),
            (b" kB", None),
        ] {
            assert_eq!(parse_kib(text), value, "{text:?}");
        }
    }

    #[test]
    fn only_the_named_bytes_are_unescaped() {
        assert_eq!(unescape(br"/a\012b", b"\n"), b"/a\nb");
        assert_eq!(unescape(br"/a\040b\134", b"\n"), br"/a\040b\134");
        assert_eq!(unescape(br"/a\040b\134", b" \\"), br"/a b\");
        assert_eq!(unescape(br"/a\01", b"\x01"), br"/a\01");
        assert_eq!(unescape(br"/a\777", b"\xff"), br"/a\777");
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_up_to(&path, 5).as_deref(), Some(&b"12345"[..]));
        assert_eq!(read_up_to(&path, 4), None);
        assert_eq!(read_small(&folder.path().join("missing")), None);
    }

    proptest! {
        #[test]
        fn parsers_take_any_bytes(content: Vec<u8>, escaped: Vec<u8>) {
            let _ = parse_number(&content);
            let _ = parse_single_number(&content);
            let _ = parse_kib(&content);
            prop_assert!(unescape(&content, &escaped).len() <= content.len());
            for (key, value) in keyed_lines(&content) {
                prop_assert!(key.len() + value.len() < content.len());
            }
        }
    }
}
