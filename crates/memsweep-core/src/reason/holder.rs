//! What holds the memory that is still in use.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reason;

/// What holds memory that is still in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Holder {
    /// What torch has allocated, less what ComfyUI's loaded models have there.
    Unexplained {
        /// The device.
        device: String,
    },
    /// What the driver says of this process, less what torch's allocator holds and what ComfyUI
    /// pages.
    OutsideTorch {
        /// The device.
        device: String,
    },
    /// The storages of a cached output that stays; none of a model that ComfyUI manages, and none
    /// that an earlier row counts.
    Output {
        /// The device.
        device: String,
        /// The nodes it is of.
        what: String,
    },
    /// What is reached only from an error's traceback, at least; a note says which.
    Error {
        /// The device.
        device: String,
    },
    /// The storages of what is connected.
    Connected {
        /// The device.
        device: String,
    },
    /// The RAM of a process that this one has started, or that such a one has started.
    Child {
        /// Its number.
        pid: u32,
        /// What the system calls it.
        name: String,
        /// What it shares with others counts in full: it could not be told apart, or not quickly.
        at_most: bool,
    },
    /// The RAM of more such processes.
    MoreChildren {
        /// How many.
        count: u64,
    },
    /// What autograd keeps for a backward pass, behind what stays. How much that is nobody tells.
    Graph {
        /// The nodes of the cached output that has it; `None` for what is connected.
        output: Option<String>,
    },
    /// Resident shared memory of this process.
    SharedMemory,
    /// Resident pages of files that this process has mapped.
    MappedFiles,
}

impl Reason for Holder {}

impl Holder {
    /// The device whose memory it is; `None` for RAM.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Unexplained { device }
            | Self::OutsideTorch { device }
            | Self::Output { device, .. }
            | Self::Error { device }
            | Self::Connected { device } => Some(device),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexplained { device } => {
                write!(f, "{device}: tensors that no loaded model of ComfyUI explains")
            }
            Self::OutsideTorch { device } => {
                write!(f, "{device}: this process outside torch, such as its context and other libraries")
            }
            Self::Output { device, what } => {
                write!(f, "{device}: cached output of {what}, which stays")
            }
            Self::Error { device } => {
                write!(f, "{device}: kept by the traceback of an error, see the note, at least")
            }
            Self::Connected { device } => write!(f, "{device}: connected to this node"),
            Self::Child { pid, name, at_most } => {
                let at_most = if *at_most { ", at most" } else { "" };
                write!(f, "RAM of child process {pid} ({name}){at_most}")
            }
            Self::Graph { output } => {
                match output {
                    Some(what) => write!(f, "cached output of {what}, which stays")?,
                    None => f.write_str("connected to this node")?,
                }
                f.write_str(": has an autograd graph, which keeps what it needs for a backward pass")
            }
            Self::SharedMemory => {
                f.write_str("shared memory, which stays as long as any process has it")
            }
            Self::MappedFiles => f.write_str(
                "mapped files (libraries, model weights), which the system takes back when it needs the RAM",
            ),
            Self::MoreChildren { count } => {
                write!(f, "RAM of {count} more child processes, at most")
            }
        }
    }
}
