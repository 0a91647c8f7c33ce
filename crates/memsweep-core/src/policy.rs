//! Raw settings become a validated policy once; nothing later sees raw input.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::level::{Level, UnknownLevel};
use crate::park::ParkLimits;
use crate::reading::Reading;

/// Settings as a node or a caller gives them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Level name; absent means `collect`.
    pub level: Option<String>,
    /// Stop as soon as this holds.
    pub goal: Option<Goal>,
    /// Also do what affects other programs or only pages memory out.
    pub system_wide: bool,
    /// Plan and report, release nothing.
    pub dry_run: bool,
    /// How far parking may go.
    pub park: ParkSettings,
}

/// Parking, as a caller sets it. What is absent keeps its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ParkSettings {
    /// Nothing is parked.
    pub off: bool,
    /// A folder on a disk, for the spill files.
    pub folder: Option<String>,
    /// The most that one sweep moves.
    pub bytes: Option<Bytes>,
    /// For how many seconds one sweep writes.
    pub seconds: Option<f64>,
}

/// When a sweep has done enough. A goal whose number cannot be read never counts as reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Goal {
    /// RAM we may still take (machine and cgroup) is at least this many bytes.
    RamAvailable(Bytes),
    /// Anonymous memory of this process is at most this many bytes.
    ProcessAnonymous(Bytes),
    /// The driver counts at least this much free memory on the device.
    DeviceFree {
        /// Device id as in the reading.
        device: String,
        /// Wanted free bytes.
        bytes: Bytes,
    },
}

impl Goal {
    /// Whether the goal holds; `None` when the number behind it is unknown.
    #[must_use]
    pub fn is_met(&self, reading: &Reading) -> Option<bool> {
        match self {
            Self::RamAvailable(wanted) => Some(reading.ram_available()? >= *wanted),
            Self::ProcessAnonymous(limit) => Some(reading.process.anonymous? <= *limit),
            Self::DeviceFree { device, bytes } => Some(reading.device(device)?.free()? >= *bytes),
        }
    }
}

/// Validated settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Policy {
    /// What was asked for.
    pub requested: Level,
    /// What will be done: `evict` where `park` was asked for and is switched off.
    pub level: Level,
    /// When to stop early.
    pub goal: Option<Goal>,
    /// Steps outside the process are allowed.
    pub system_wide: bool,
    /// Nothing is released.
    pub dry_run: bool,
    /// How far parking may go; `None` means not at all.
    pub park: Option<ParkLimits>,
}

/// Invalid settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The level does not exist.
    #[error(transparent)]
    Level(#[from] UnknownLevel),
    /// A goal without a device can never be reached.
    #[error("goal `device_free` needs the device's id, such as `cuda:0`")]
    GoalWithoutDevice,
    /// Seconds that are not a valid time.
    #[error("park `seconds` is {0}: use a number of seconds of at least 0")]
    ParkSeconds(String),
}

impl TryFrom<Settings> for Policy {
    type Error = PolicyError;

    fn try_from(settings: Settings) -> Result<Self, PolicyError> {
        let requested = match &settings.level {
            Some(name) => name.parse()?,
            None => Level::Collect,
        };
        if matches!(&settings.goal, Some(Goal::DeviceFree { device, .. }) if device.is_empty()) {
            return Err(PolicyError::GoalWithoutDevice);
        }
        let park = limits(settings.park)?;
        let level =
            if requested == Level::Park && park.is_none() { Level::Evict } else { requested };
        Ok(Self {
            requested,
            level,
            goal: settings.goal,
            system_wide: settings.system_wide,
            dry_run: settings.dry_run,
            park,
        })
    }
}

fn limits(settings: ParkSettings) -> Result<Option<ParkLimits>, PolicyError> {
    if settings.off {
        return Ok(None);
    }
    let default = ParkLimits::default();
    let seconds = settings.seconds.unwrap_or(default.seconds);
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(PolicyError::ParkSeconds(seconds.to_string()));
    }
    Ok(Some(ParkLimits { folder: settings.folder, bytes: settings.bytes, seconds }))
}
