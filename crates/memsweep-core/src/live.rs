//! The live set: what the nodes still to run in this prompt need.
//!
//! Two granularities. An entry is live as a whole; a model or storage is live only through the
//! output slots that somebody still reads, so a loader's MODEL may leave the device while its VAE
//! stays.
//!
//! The executor's own blocking tables are not enough: a link whose source has finished is gone
//! from them although its consumer has yet to read it. So the links of every pending node count.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::{Execution, NodeFact};

/// What must stay, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSet {
    /// Entry number to the node that needs it.
    pub entries: BTreeMap<u32, String>,
    /// Model number to the node that needs it.
    pub models: BTreeMap<u32, String>,
    /// Storages of live slots.
    pub storages: BTreeSet<u32>,
    /// A node still to run that could not be read: nothing of this prompt may go.
    pub unreadable: Option<String>,
    /// A node that needs an entry of a shape we do not know: any model may be in it.
    pub any_model: Option<String>,
}

/// Computes the live set of a prompt.
#[must_use]
pub fn live_set(execution: &Execution) -> LiveSet {
    let nodes: BTreeMap<&str, &NodeFact> =
        execution.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut live = LiveSet::default();
    let waiting =
        || execution.nodes.iter().filter(|node| node.pending && node.id != execution.running);

    for node in waiting() {
        if node.opaque {
            live.unreadable.get_or_insert_with(|| node.id.clone());
        }
        // A pending node may already have a cached result: staging it again must find it.
        if let Some(entry) = cached(execution, node) {
            live.keep_whole(execution, entry, &node.id);
        }
        for link in &node.links {
            live.keep_link(execution, &nodes, &link.source, link.slot, &node.id);
        }
    }
    for (entry, fact) in (0u32..).zip(&execution.entries) {
        for consumer in fact.held_for.iter().filter(|id| **id != execution.running) {
            live.entries.entry(entry).or_insert_with(|| consumer.clone());
            // The links of a consumer say what it reads; one without a description may read all.
            if !nodes.contains_key(consumer.as_str()) {
                live.keep_whole(execution, entry, consumer);
            }
        }
    }
    for node in &execution.nodes {
        let Some(entry) = cached(execution, node) else { continue };
        if let Some(parent) = pending_ancestor(execution, &nodes, node) {
            // The expanding node reads its children's results after they all ran.
            live.keep_whole(execution, entry, &parent);
        }
    }
    live
}

/// The node's cached output. A number that points nowhere is no result.
fn cached(execution: &Execution, node: &NodeFact) -> Option<u32> {
    node.entry.filter(|entry| (*entry as usize) < execution.entries.len())
}

/// The nearest expansion parent that is still pending.
fn pending_ancestor(
    execution: &Execution,
    nodes: &BTreeMap<&str, &NodeFact>,
    node: &NodeFact,
) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut parent = node.parent.as_deref();
    while let Some(id) = parent {
        if !seen.insert(id) {
            return None;
        }
        // A parent the host did not describe may be anything: treat it as pending.
        let Some(fact) = nodes.get(id) else { return Some(id.to_owned()) };
        if fact.pending && fact.id != execution.running {
            return Some(id.to_owned());
        }
        parent = fact.parent.as_deref();
    }
    None
}

impl LiveSet {
    fn keep_whole(&mut self, execution: &Execution, entry: u32, consumer: &str) {
        self.entries.entry(entry).or_insert_with(|| consumer.to_owned());
        match execution.entries.get(entry as usize).and_then(|fact| fact.slots.as_ref()) {
            Some(slots) => slots.iter().for_each(|slot| self.keep_slot(slot, consumer)),
            None => {
                self.any_model.get_or_insert_with(|| consumer.to_owned());
            }
        }
    }

    fn keep_slot(&mut self, slot: &crate::inventory::SlotFact, consumer: &str) {
        self.storages.extend(&slot.storages);
        for model in &slot.models {
            self.models.entry(*model).or_insert_with(|| consumer.to_owned());
        }
    }

    /// Keeps what one link reads. Where the source has no result yet and is not pending either
    /// (an input that is evaluated only on demand), its nearest cached ancestors are kept, so
    /// that computing it needs nothing that was thrown away.
    fn keep_link(
        &mut self,
        execution: &Execution,
        nodes: &BTreeMap<&str, &NodeFact>,
        source: &str,
        slot: u32,
        consumer: &str,
    ) {
        let mut stack = vec![(source.to_owned(), slot)];
        let mut seen = BTreeSet::new();
        while let Some((id, slot)) = stack.pop() {
            let Some(node) = nodes.get(id.as_str()) else { continue };
            if let Some(entry) = cached(execution, node) {
                self.entries.entry(entry).or_insert_with(|| consumer.to_owned());
                let slots = execution.entries.get(entry as usize).and_then(|e| e.slots.as_ref());
                match slots.map(|slots| slots.get(slot as usize)) {
                    Some(Some(fact)) => self.keep_slot(fact, consumer),
                    // A slot that is not there: keep all of it rather than guess.
                    _ => self.keep_whole(execution, entry, consumer),
                }
            } else if !node.pending && seen.insert(id) {
                if node.opaque {
                    self.unreadable.get_or_insert_with(|| node.id.clone());
                }
                stack.extend(node.links.iter().map(|link| (link.source.clone(), link.slot)));
            }
        }
    }
}
