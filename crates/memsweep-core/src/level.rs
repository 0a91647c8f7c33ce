//! How far a sweep goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The ladder. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Allocator slack: device cache, page-locked cache, C heap.
    Trim,
    /// Unreachable cycles, then trim.
    Collect,
    /// Managed models that are neither connected nor still needed leave their device.
    Unload,
    /// Cached outputs that no node still to run needs.
    Evict,
    /// Memory held by somebody and not needed now, moved to disk; its owner never notices.
    Park,
    /// Opt-in: unprotected tensors lose their memory, and using one is an error.
    Destroy,
}

impl Level {
    /// All levels, shallow to deep.
    pub const ALL: [Self; 6] =
        [Self::Trim, Self::Collect, Self::Unload, Self::Evict, Self::Park, Self::Destroy];

    /// Whether a plan for it needs to know what is in use. Finding that out is the most expensive
    /// part of a sweep, so the levels below do without.
    #[must_use]
    pub fn needs_facts(self) -> bool {
        self >= Self::Unload
    }

    /// The name used in JSON, in nodes and in Python.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trim => "trim",
            Self::Collect => "collect",
            Self::Unload => "unload",
            Self::Evict => "evict",
            Self::Park => "park",
            Self::Destroy => "destroy",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An unknown level name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown level `{0}`: use one of `trim`, `collect`, `unload`, `evict`, `park` or `destroy`"
)]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| UnknownLevel(name.to_owned()))
    }
}
