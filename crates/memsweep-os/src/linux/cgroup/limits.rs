//! The limits of a group and its ancestors, and how much each uses.

use std::path::Path;

use memsweep_core::bytes::Bytes;

use super::Version;
use crate::linux::text::{parse_single_number, read_small};

/// Version 1 says "no limit" as the largest multiple of the page size, at most 64 KiB, in `i64`.
const NO_LIMIT_V1: u64 = i64::MAX as u64 - 0xFFFF;

/// The tightest limit, with the usage of the group that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tightest {
    pub(crate) limit: Bytes,
    pub(crate) used: Option<Bytes>,
}

impl Tightest {
    /// The smaller limit; of equal limits the group that uses more, which has less left.
    pub(super) fn tighter(self, found: Self) -> Self {
        let less_left = found.limit == self.limit && found.used > self.used;
        if found.limit < self.limit || less_left { found } else { self }
    }
}

/// The limits of our own group and its ancestors, up to the mount point.
pub(super) fn limits(version: Version, point: &Path, below: &Path) -> Vec<Tightest> {
    let mut found = Vec::new();
    for part in below.ancestors() {
        let folder = point.join(part);
        let own_group = part == below;
        let Some(limit) = read_small(&folder.join(version.limit_file()))
            .and_then(|content| parse_limit(version, &content))
        else {
            continue;
        };
        if version == Version::One && !own_group && !covers_children(&folder) {
            continue;
        }
        let used = read_small(&folder.join(version.usage_file()))
            .and_then(|content| parse_single_number(&content))
            .map(Bytes);
        found.push(Tightest { limit, used });
    }
    found
}

/// In version 1 a group with `use_hierarchy` 0 does not charge its children's memory.
fn covers_children(folder: &Path) -> bool {
    let flag = read_small(&folder.join("memory.use_hierarchy"));
    flag.and_then(|content| parse_single_number(&content)) != Some(0)
}

pub(crate) fn parse_limit(version: Version, content: &[u8]) -> Option<Bytes> {
    // "max" is not a number, so it is no limit here.
    let limit = parse_single_number(content)?;
    let unlimited = version == Version::One && limit >= NO_LIMIT_V1;
    (!unlimited).then_some(Bytes(limit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_limit_is_none() {
        for (version, content, limit) in [
            (Version::Two, "max\n", None),
            (Version::Two, "1048576\n", Some(1_048_576)),
            (Version::Two, "0\n", Some(0)),
            (Version::Two, "-1\n", None),
            (Version::Two, "", None),
            (Version::One, "9223372036854771712\n", None),
            (Version::One, "9223372036854710272\n", None),
            (Version::One, "18446744073709551615\n", None),
            (Version::One, "99999999999999999999\n", None),
            (Version::One, "1048576", Some(1_048_576)),
        ] {
            assert_eq!(parse_limit(version, content.as_bytes()), limit.map(Bytes), "{content}");
        }
    }

    #[test]
    fn the_smaller_limit_wins_then_the_fuller_group() {
        let group =
            |limit, used: Option<u64>| Tightest { limit: Bytes(limit), used: used.map(Bytes) };
        assert_eq!(group(9, Some(1)).tighter(group(8, None)), group(8, None));
        assert_eq!(group(8, None).tighter(group(9, Some(1))), group(8, None));
        assert_eq!(group(8, Some(1)).tighter(group(8, Some(7))), group(8, Some(7)));
        assert_eq!(group(8, Some(7)).tighter(group(8, None)), group(8, Some(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            let _ = parse_limit(Version::One, &content);
            let _ = parse_limit(Version::Two, &content);
        }
    }
}
