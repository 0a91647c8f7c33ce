//! What people know a model, a node or a cached output by: files and titles first, classes second.
//!
//! Everything that a plan names is named here. A name may hold anything, because files and titles
//! come from outside: whoever shows one passes it through [`crate::plain`].

use std::collections::BTreeMap;

use crate::inventory::{EntryFact, Executor, Inventory, ModelFact, NodeFact};

/// The name of a cached output that no node of this prompt made.
const OF_AN_EARLIER_WORKFLOW: &str = "an earlier workflow's node";
/// Nodes that a cached output is named after.
const MOST_NODES: usize = 4;

/// A model: `sd15.safetensors, text encoder`; its class where the file is unknown.
#[must_use]
pub fn model(fact: &ModelFact) -> String {
    if fact.files.is_empty() {
        return fact.name.clone();
    }
    let files = fact.files.join(" + ");
    match non_blank(fact.part.as_ref()) {
        Some(part) => format!("{files}, {part}"),
        None => files,
    }
}

/// A model and where it is: `sd15.safetensors, text encoder on cuda:0`.
#[must_use]
pub fn model_on_its_device(fact: &ModelFact) -> String {
    let name = model(fact);
    // The part says what it is. A class or a file alone may be anything.
    let says_what = !fact.files.is_empty() && non_blank(fact.part.as_ref()).is_some();
    let kind = if says_what { "" } else { "model " };
    format!("{kind}{name} on {}", fact.device)
}

/// The names of one inventory.
#[derive(Debug)]
pub struct Names<'a> {
    nodes: BTreeMap<&'a str, &'a NodeFact>,
    of_entry: BTreeMap<u32, Vec<&'a NodeFact>>,
}

impl<'a> Names<'a> {
    /// Where no executor was identified, no node is known.
    #[must_use]
    pub fn of(inventory: &'a Inventory) -> Self {
        let nodes = match &inventory.executor {
            Executor::Identified(execution) => execution.nodes.as_slice(),
            _ => &[],
        };
        let mut of_entry: BTreeMap<u32, Vec<&NodeFact>> = BTreeMap::new();
        for node in nodes {
            if let Some(entry) = node.entry {
                of_entry.entry(entry).or_default().push(node);
            }
        }
        Self { nodes: nodes.iter().map(|node| (node.id.as_str(), node)).collect(), of_entry }
    }

    /// A node: `#6 VAE Decode`; its class where it has no title, its id alone where it was not
    /// described.
    #[must_use]
    pub fn node(&self, id: &str) -> String {
        self.nodes.get(id).map_or_else(|| format!("#{id}"), |node| described(node))
    }

    /// A cached output: named after its nodes, where the host has no name of its own for it.
    #[must_use]
    pub fn entry(&self, number: u32, entry: &EntryFact) -> String {
        if !entry.name.is_empty() {
            return entry.name.clone();
        }
        match self.of_entry.get(&number) {
            Some(nodes) => {
                let mut shown: Vec<String> =
                    nodes.iter().take(MOST_NODES).map(|node| described(node)).collect();
                shown.dedup();
                if nodes.len() > MOST_NODES {
                    shown.push(format!("{} more", nodes.len() - MOST_NODES));
                }
                shown.join(", ")
            }
            None => OF_AN_EARLIER_WORKFLOW.to_owned(),
        }
    }
}

fn described(node: &NodeFact) -> String {
    // The node that people see: an id of ComfyUI's own tells them nothing.
    let id = non_blank(node.shown.as_ref()).unwrap_or(&node.id);
    match non_blank(node.title.as_ref()).or_else(|| non_blank(Some(&node.class))) {
        Some(title) => format!("#{id} {title}"),
        None => format!("#{id}"),
    }
}

/// The text, unless it is blank.
fn non_blank(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}
