//! What people should know about a plan or a report.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::has_other;
use crate::bytes::Bytes;
use crate::level::Level;

/// A remark that belongs to no step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Note {
    /// Parking was asked for and is switched off.
    ParkingOff {
        /// The level that the sweep stops at instead.
        level: Level,
    },
    /// What the connected inputs reach.
    Protected {
        /// Blocks of memory.
        blocks: u64,
        /// Their size.
        bytes: Bytes,
    },
    /// Release Model was given something that holds no managed model.
    NoTarget,
    /// The executor is not of a shape we know, so no cached output was dropped.
    ExecutorUnknown {
        /// What did not match.
        reason: String,
    },
    /// The cache mode keeps no outputs.
    NoCache,
    /// The executor is not of a shape we know, so nothing was destroyed.
    NotDestroyedExecutorUnknown {
        /// What did not match.
        reason: String,
    },
    /// A node still to run may read any output, so nothing was destroyed.
    NotDestroyedAnyOutput {
        /// That node.
        node: String,
    },
    /// A cached output of unknown shape may hold anything, so nothing was destroyed.
    NotDestroyedUnreadable {
        /// That output.
        entry: String,
    },
    /// In a plain program nobody manages models or cached outputs.
    NoManager,
    /// The prompt ended without reaching the node, so the sweep ran then.
    NotReached,
    /// The sweep ran because the prompt ended badly.
    AfterFailure {
        /// The user cancelled it.
        cancelled: bool,
    },
    /// An input is connected and empty.
    InputIsNone {
        /// Its name.
        input: String,
    },
    /// A setting for parking is wrong.
    ParkingMisconfigured {
        /// What is wrong.
        error: String,
    },
    /// It could not be determined what is in use, so whatever depends on that was left out.
    FactsUnknown {
        /// The error.
        error: String,
    },
    /// Python keeps the last error that nobody caught, with its traceback.
    KeptByLastError {
        /// Reached only from there, at least.
        bytes: Bytes,
        /// How much of it is on each device.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        devices: BTreeMap<String, Bytes>,
        /// Names that delete it.
        names: Vec<String>,
        /// IPython keeps it in more places.
        shell: bool,
    },
    /// An error that a thread is handling holds its traceback.
    KeptByHandledError {
        /// Reached only from there, at least.
        bytes: Bytes,
        /// How much of it is on each device.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        devices: BTreeMap<String, Bytes>,
        /// The thread; `None` for the one that sweeps.
        thread: Option<String>,
    },
    /// More stayed than is listed.
    NotListed {
        /// How many things.
        count: u64,
        /// Their size at most, where known.
        bytes: Bytes,
    },
    /// Anything else.
    Other {
        /// In words.
        text: String,
    },
}

has_other!(Note);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParkingOff { level } => {
                write!(f, "parking is switched off: the sweep went as far as {level}")
            }
            Self::Protected { blocks, bytes } => {
                let plural = if *blocks == 1 { "block" } else { "blocks" };
                write!(f, "protected by what is connected: {blocks} {plural} of memory, {bytes}")
            }
            Self::NoTarget => f.write_str("no model that ComfyUI manages was found in it"),
            Self::ExecutorUnknown { reason } => write!(
                f,
                "no cached output was dropped, because the executor was not recognised: {reason}"
            ),
            Self::NoCache => f.write_str("this ComfyUI keeps no output cache: nothing to drop"),
            Self::NotDestroyedExecutorUnknown { reason } => write!(
                f,
                "nothing was destroyed, because the executor was not recognised: {reason}"
            ),
            Self::NotDestroyedAnyOutput { node } => write!(
                f,
                "nothing was destroyed, because node {node} is still to run and may read any output"
            ),
            Self::NotDestroyedUnreadable { entry } => {
                write!(f, "nothing was destroyed, because {entry} has a shape we do not know")
            }
            Self::NoManager => f.write_str(
                "no model manager and no output cache in this program: models and cached outputs \
                 are freed by dropping your own references",
            ),
            Self::NotReached => f.write_str(
                "the prompt ended without reaching this node, so its sweep ran then (`run: every \
                 queue`)",
            ),
            Self::AfterFailure { cancelled } => {
                let how = if *cancelled { "was cancelled" } else { "failed" };
                write!(f, "the prompt {how}, and the sweep that the settings ask for ran after it")
            }
            Self::InputIsNone { input } => {
                write!(f, "input `{input}` is None, so it protects nothing")
            }
            Self::ParkingMisconfigured { error } => write!(f, "nothing was parked: {error}"),
            Self::FactsUnknown { error } => write!(
                f,
                "no model was unloaded and no cached output dropped, because it could not be \
                 determined what is in use: {error}"
            ),
            Self::KeptByLastError { bytes, names, shell, .. } => {
                write!(
                    f,
                    "at least {bytes} are reached only from the last uncaught error, which Python \
                     keeps with all variables of its traceback: "
                )?;
                if *shell {
                    f.write_str(
                        "IPython has it in more places, and the next uncaught error, such as \
                         `1/0`, lets them go",
                    )
                } else {
                    write!(f, "`del {}` lets them go", names.join(", "))
                }
            }
            Self::KeptByHandledError { bytes, thread, .. } => {
                let place = "are reached only from the traceback of an error that";
                match thread {
                    None => write!(
                        f,
                        "at least {bytes} {place} this thread is handling: sweep after its \
                         `except` block has ended"
                    ),
                    Some(name) => write!(
                        f,
                        "at least {bytes} {place} thread {name} is handling: they go after its \
                         `except` block has ended"
                    ),
                }
            }
            Self::NotListed { count, bytes } => {
                write!(f, "{count} smaller things that stayed are not listed: at most {bytes}")
            }
            Self::Other { text } => f.write_str(text),
        }
    }
}
