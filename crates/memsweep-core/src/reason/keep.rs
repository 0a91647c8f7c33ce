//! Why something is kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reason;

/// Why something stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Keep {
    /// Reached from what is connected to the node.
    Connected,
    /// A node still to run needs it.
    NeededBy {
        /// That node.
        node: String,
    },
    /// Somebody outside this prompt is working with it.
    InUse {
        /// Who, in words.
        by: String,
    },
    /// Dropping an output node's entry would make it save or show again.
    OutputNode,
    /// It feeds an output node: without it an identical queue would recompute everything.
    FeedsOutputNode {
        /// That node.
        node: String,
    },
    /// A loop gave it, and the node at the loop's end has not taken it yet.
    LoopResult {
        /// That node.
        node: String,
    },
    /// Its memory is held by something else that stays, so dropping it frees nothing.
    NothingToGain,
    /// Its content has a shape we do not know.
    Unreadable,
    /// Running its node again may give a different result, or cost money.
    Unrepeatable,
    /// A node still to run may read any output of this prompt.
    UnreadableNode {
        /// That node.
        node: String,
    },
}

impl Reason for Keep {}

impl Keep {
    /// What a user can do to free it. `None` where nothing would be gained.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let by_hand = "ComfyUI's \"Free model and node cache\" drops it, and it is computed again";
        Some(match self {
            Self::Connected => "a later sweep that is not connected to it can free it".to_owned(),
            Self::NeededBy { node } | Self::UnreadableNode { node } | Self::LoopResult { node } => {
                format!("a sweep after {node} can free it")
            }
            Self::InUse { .. } => "a sweep after that can free it".to_owned(),
            Self::OutputNode | Self::FeedsOutputNode { .. } | Self::Unreadable => {
                by_hand.to_owned()
            }
            Self::Unrepeatable => {
                format!("{by_hand}, possibly with a different result or at a cost")
            }
            Self::NothingToGain => return None,
        })
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected to this node"),
            Self::NeededBy { node } => write!(f, "node {node} still needs it"),
            Self::InUse { by } => write!(f, "{by} is using it"),
            Self::OutputNode => f.write_str("an output node would run again without it"),
            Self::FeedsOutputNode { node } => write!(f, "feeds output node {node} directly"),
            Self::LoopResult { node } => write!(f, "waits for {node}, the end of its loop"),
            Self::NothingToGain => f.write_str("dropping it would free nothing"),
            Self::Unreadable => f.write_str("its content has a shape we do not know"),
            Self::Unrepeatable => {
                f.write_str("running its node again may give a different result or cost money")
            }
            Self::UnreadableNode { node } => {
                write!(f, "node {node} is still to run and may read any output")
            }
        }
    }
}
