//! Oracles that the targets share, written as plainly as they can be.

#![forbid(unsafe_code)]

use memsweep_core::bytes::Bytes;

/// The first `key:  1234 kB` line with a number that fits, computed so that it cannot wrap.
#[must_use]
pub fn kibibytes(content: &[u8], key: &str) -> Option<Bytes> {
    let text = String::from_utf8_lossy(content);
    text.split('\n').find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let [number, "kB"] = words[..] else { return None };
        (name == key).then(|| bytes(decimal(number)? * 1024))?
    })
}

/// A number of digits alone; `None` where it does not fit 100 bits either.
#[must_use]
pub fn decimal(text: &str) -> Option<u128> {
    let digits = !text.is_empty() && text.chars().all(|one| one.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number < 1 << 100)
}

/// The number as bytes, if `u64` can hold it.
#[must_use]
pub fn bytes(number: u128) -> Option<Bytes> {
    u64::try_from(number).ok().map(Bytes)
}

/// A name as the kernel writes it: each of `escaped` as a backslash and three octal digits.
#[must_use]
pub fn kernel_escapes(name: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for byte in name {
        if escaped.contains(byte) {
            written.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            written.push(*byte);
        }
    }
    written
}

/// The parts between NUL bytes, which no name and no line of the kernel contains; missing ones
/// are empty.
#[must_use]
pub fn parts<const N: usize>(content: &[u8]) -> [&[u8]; N] {
    let mut parts = content.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
