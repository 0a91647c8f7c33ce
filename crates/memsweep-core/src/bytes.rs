//! A count of bytes, and its display in binary units.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes. JSON carries the plain number; people see binary units.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes at all: a measured zero, never "unknown".
    pub const ZERO: Self = Self(0);

    /// One kibibyte, the unit of `/proc`.
    pub const KIB: u64 = 1024;
    /// One mebibyte.
    pub const MIB: u64 = 1024 * 1024;

    /// From the kibibytes the Linux kernel reports. Saturates instead of wrapping.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(Self::KIB))
    }

    /// From mebibytes. Saturates instead of wrapping.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(Self::MIB))
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// How much smaller `later` is than `self`: positive when memory was given back.
    #[must_use]
    pub fn fallen_to(self, later: Self) -> Change {
        let wide = i128::from(self.0) - i128::from(later.0);
        Change(wide.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_binary(f, self.0, "")
    }
}

/// A signed difference of two measurements, in bytes. Positive means given back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Change(pub i64);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_binary(f, self.0.unsigned_abs(), if self.0 < 0 { "-" } else { "" })
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, bytes: u64, sign: &str) -> fmt::Result {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < Bytes::KIB {
        return write!(f, "{sign}{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would round up to "1024.0"; the next unit reads better.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    write!(f, "{sign}{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_in_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_575, "1.0 MiB"),
            (3_714_056_192, "3.5 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Change(-1536).to_string(), "-1.5 KiB");
        assert_eq!(Change(i64::MIN).to_string(), "-8192.0 PiB");
    }

    #[test]
    fn differences_saturate_and_keep_their_sign() {
        assert_eq!(Bytes(10).fallen_to(Bytes(4)), Change(6));
        assert_eq!(Bytes(4).fallen_to(Bytes(10)), Change(-6));
        assert_eq!(Bytes(u64::MAX).fallen_to(Bytes(0)), Change(i64::MAX));
        assert_eq!(Bytes::from_kib(u64::MAX), Bytes(u64::MAX));
    }
}
