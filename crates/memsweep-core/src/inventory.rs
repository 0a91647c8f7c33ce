//! What could be released, as the host describes it. Facts only, no decision.
//!
//! Everything is referred to by its index: entry 3 is `execution.entries[3]`, model 0 is
//! `models[0]`, storage 7 is `storages[7]`. An index out of range is ignored, never an error: a
//! fact that points nowhere protects nothing and releases nothing.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::reason::{Note, Why};

/// Everything the host found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Inventory {
    /// Memory blocks behind tensors and arrays, each once however many objects share it.
    pub storages: Vec<StorageFact>,
    /// Models that the program's model management has loaded.
    pub models: Vec<ModelFact>,
    /// Models to release by name: when given, only these and the entries that hold them go.
    pub targets: Vec<u32>,
    /// A model was to be released by name, whether or not it was found: nothing else goes.
    pub only_targets: bool,
    /// What the protected objects reach.
    pub connected: Connected,
    /// The executor we run in.
    pub executor: Executor,
    /// Model files that were mapped into the process before the sweep.
    pub mapped_files: Vec<String>,
    /// What people should know about these facts; copied into the report.
    pub notes: Vec<Why<Note>>,
}

impl Inventory {
    /// Whether models are released by name, and nothing else.
    #[must_use]
    pub fn is_targeted(&self) -> bool {
        self.only_targets || !self.targets.is_empty()
    }
}

/// One block of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct StorageFact {
    /// Its size.
    pub bytes: Bytes,
    /// Where it is: `cpu`, `cuda:0`.
    pub device: String,
    /// A tensor in it has an autograd graph.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub graph: bool,
}

/// One managed model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ModelFact {
    /// Class name of the model.
    pub name: String,
    /// The files it was loaded from, as its loader shows them. Empty where that is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// What it is in a workflow: diffusion model, text encoder, VAE, ControlNet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The device it is loaded on.
    pub device: String,
    /// Bytes it takes on that device, according to its manager.
    pub bytes: Option<Bytes>,
    /// RAM that its manager has page-locked to bring its weights to the device, where it pages them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Bytes>,
    /// It is on that device now. A model to release may sit in RAM only.
    pub loaded: bool,
    /// Where unloading puts its weights, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload_device: Option<String>,
    /// Who else is using it, in words: another thread, another prompt. `None` where nobody is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use_by: Option<String>,
}

/// What the node's inputs reach: never touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Connected {
    /// Storages reached.
    pub storages: Vec<u32>,
    /// Models reached.
    pub models: Vec<u32>,
}

/// The executor we run in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Executor {
    /// No workflow executor: a plain program.
    #[default]
    Absent,
    /// There is one, but it is not the one we know. Nothing is evicted.
    Unidentified {
        /// What did not match.
        reason: String,
    },
    /// Identified, and described.
    Identified(Execution),
}

/// One prompt under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Execution {
    /// The node that runs this sweep. It holds its own inputs.
    pub running: String,
    /// Nodes of the prompt, expanded ones included.
    pub nodes: Vec<NodeFact>,
    /// Entries of the output cache, of this prompt and of others.
    pub entries: Vec<EntryFact>,
    /// The cache drops outputs by itself and has no entries to evict.
    pub keeps_nothing: bool,
    /// Results of loops that the executor itself holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loop_results: Vec<LoopFact>,
}

/// What a loop gave, until the node at its end has taken it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LoopFact {
    /// The node at its end.
    pub node: String,
    /// Storages it reaches.
    pub storages: Vec<u32>,
    /// Managed models it reaches.
    pub models: Vec<u32>,
}

/// One node of the prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NodeFact {
    /// Its id.
    pub id: String,
    /// The id that the front-end shows for it, where another node's expansion made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// Its class key.
    pub class: String,
    /// What the front-end calls it: the user's title, or the display name of its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// It has yet to run, or to finish.
    pub pending: bool,
    /// It is an output node: saves, shows, or sweeps.
    pub output: bool,
    /// What it reads when it runs.
    pub reads: Reads,
    /// It has run and became other nodes: what it waits for is all that it reads any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expanded: Option<Vec<Link>>,
    /// Running it again may give a different result, or cost money.
    pub unrepeatable: bool,
    /// The node whose expansion made it.
    pub parent: Option<String>,
    /// Its connected inputs, lazy ones included.
    pub links: Vec<Link>,
    /// Nodes that its other inputs name, where it gets the whole prompt: it may copy them too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Its cached output. Two nodes may share one entry.
    pub entry: Option<u32>,
}

/// What a node reads when it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// Its links.
    #[default]
    Links,
    /// It gets the whole prompt, as the end node of a loop does: it may become copies of the nodes
    /// that its links lead to, however far up, and they read what those read.
    Upstream,
    /// Its inputs could not be read: any output of this prompt.
    Anything,
}

/// A connected input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The node it comes from.
    pub source: String,
    /// Which of its outputs.
    pub slot: u32,
}

/// One entry of the output cache. Kept or evicted whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EntryFact {
    /// For people, where the host has a name of its own for it. Otherwise it is named after its
    /// nodes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its outputs; `None` when they are not of a shape we know.
    pub slots: Option<Vec<SlotFact>>,
    /// It carries what the front-end shows: an output node's entry.
    pub has_ui: bool,
    /// Pending nodes for which the executor itself keeps it.
    pub held_for: Vec<String>,
    /// Its key equals no other, so no later prompt can find it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unfindable: bool,
    /// Without it something would be computed again that must not be, by whichever node of whichever
    /// workflow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unrepeatable: bool,
}

/// One output of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SlotFact {
    /// Storages it reaches.
    pub storages: Vec<u32>,
    /// Managed models it reaches.
    pub models: Vec<u32>,
    /// It is a number, a string or the like: dropping it gains nothing.
    pub plain: bool,
}
