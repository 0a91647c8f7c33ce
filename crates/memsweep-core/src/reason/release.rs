//! Why something is released.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::level::Level;

/// Why a step is in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Release {
    /// The level includes this step.
    PartOfLevel {
        /// The level that brings it in.
        level: Level,
    },
    /// No node still to run reads these outputs.
    NoReaderLeft {
        /// Names of the entries.
        entries: Vec<String>,
    },
    /// Neither connected nor needed by a node still to run.
    NotNeeded,
    /// The same, but it is kept on the very device that it runs on: unloading takes its patches
    /// out, and moves nothing.
    NotNeededAndStaysOn {
        /// That device.
        device: String,
    },
    /// What was released may sit in reference cycles.
    AfterRelease,
    /// Mapped before the sweep; dropped only if nothing maps it any more.
    MaybeUnmapped,
    /// Held by somebody, and not in use now.
    HeldAndIdle,
    /// The level `destroy` was chosen, and neither connected nor needed nor in use.
    HeldAndNotNeeded,
    /// The `system_wide` switch is on.
    SystemWide,
}

impl Reason for Release {}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartOfLevel { level } => write!(f, "part of level {level}"),
            Self::NoReaderLeft { entries } => {
                write!(f, "no node still to run reads {}", entries.join(", "))
            }
            Self::NotNeeded => f.write_str("not connected, and no node still to run needs it"),
            Self::NotNeededAndStaysOn { device } => write!(
                f,
                "not connected, and no node still to run needs it; its weights stay on {device}, \
                 where unloading puts them too"
            ),
            Self::AfterRelease => f.write_str("what was released may sit in reference cycles"),
            Self::MaybeUnmapped => f.write_str("mapped before the sweep, perhaps not any more"),
            Self::HeldAndIdle => f.write_str("held by somebody, and not in use now"),
            Self::HeldAndNotNeeded => {
                f.write_str("level destroy was chosen; not connected, not needed and not in use")
            }
            Self::SystemWide => f.write_str("the system_wide switch is on"),
        }
    }
}
