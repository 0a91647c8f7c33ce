//! Whether this machine has the memory that the full-size tests need.

use std::fs;

/// They load 2 GB of weights, which grow to about 5 GB.
const FULL_NEEDS_BYTES: u64 = 8 << 30;

/// Unknown counts as enough: the tests say themselves when it was not.
pub(super) fn full_fits() -> bool {
    available_memory().is_none_or(|bytes| bytes >= FULL_NEEDS_BYTES)
}

/// What this machine, or the container that limits us, can still give. Linux only.
fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = kibibytes(&meminfo, "MemAvailable:")?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let used = fs::read_to_string("/sys/fs/cgroup/memory.current").ok();
    let left = limit
        .and_then(|text| text.trim().parse::<u64>().ok())
        .zip(used.and_then(|text| text.trim().parse::<u64>().ok()))
        .map(|(limit, used)| limit.saturating_sub(used));
    Some(left.map_or(machine, |left| left.min(machine)))
}

/// The bytes behind a name in a `/proc` file, which counts in kB.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let number: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_broken_number_is_absent() {
        let text = "MemTotal:  100 kB\nMemAvailable:   8 kB\nBroken: x kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(8192));
        assert_eq!(kibibytes(text, "MemFree:"), None);
        assert_eq!(kibibytes(text, "Broken:"), None);
    }
}
