//! RAM of the machine from `/proc/meminfo`, and pressure from `/proc/pressure/memory`.

use std::path::Path;

use memsweep_core::reading::MachineMemory;

use super::text::{keyed_lines, parse_kib, read_small, words};

pub(crate) fn read(proc: &Path) -> MachineMemory {
    let mut memory =
        read_small(&proc.join("meminfo")).map(|content| parse(&content)).unwrap_or_default();
    // Absent where the kernel was built or booted without PSI.
    memory.pressure_percent =
        read_small(&proc.join("pressure/memory")).and_then(|content| parse_pressure(&content));
    memory
}

pub(super) fn parse(content: &[u8]) -> MachineMemory {
    let mut memory = MachineMemory::default();
    for (key, value) in keyed_lines(content) {
        let field = match key {
            b"MemTotal" => &mut memory.total,
            b"MemAvailable" => &mut memory.available,
            b"SwapTotal" => &mut memory.swap_total,
            b"SwapFree" => &mut memory.swap_free,
            _ => continue,
        };
        *field = field.or_else(|| parse_kib(value));
    }
    memory
}

/// `some avg10=`: the share of the last 10 s in which at least one task waited for memory.
pub(super) fn parse_pressure(content: &[u8]) -> Option<f64> {
    let line = content.split(|&byte| byte == b'\n').find(|line| line.starts_with(b"some "))?;
    let text = words(line).find_map(|word| word.strip_prefix(b"avg10="))?;
    // `f64` would accept "inf", "nan", "-1" and "1e9" as well.
    if !text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return None;
    }
    let percent: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (percent <= 100.0).then_some(percent)
}

#[cfg(test)]
mod tests {
    use memsweep_core::bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_machine_is_read_field_by_field() {
        let content = b"MemTotal:       24684096 kB\nMemFree:  1 kB\nMemAvailable:   nonsense kB\n\
            SwapTotal:             0 kB\nSwapFree:   12 GB\n";
        assert_eq!(
            parse(content),
            MachineMemory {
                total: Some(Bytes::from_kib(24_684_096)),
                swap_total: Some(Bytes::ZERO),
                ..MachineMemory::default()
            }
        );
    }

    #[test]
    fn pressure_is_a_share_or_unknown() {
        for (content, expected) in [
            ("some avg10=1.25 avg60=0.00 avg300=0.00 total=0\nfull avg10=9.00\n", Some(1.25)),
            ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0", Some(0.0)),
            ("full avg10=9.00\n", None),
            ("some avg60=9.00\n", None),
            ("some avg10=\n", None),
            ("some avg10=nan\n", None),
            ("some avg10=inf\n", None),
            ("some avg10=-1.00\n", None),
            ("some avg10=100.01\n", None),
            ("some avg10=1.2.3\n", None),
            ("", None),
        ] {
            assert_eq!(parse_pressure(content.as_bytes()), expected, "{content}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            let _ = parse(&content);
            let _ = parse_pressure(&content);
            let _ = parse_pressure(&[b"some avg10=", &content[..]].concat());
        }
    }
}
