//! The live set: what the nodes still to run in this prompt need.
//!
//! Two granularities. An entry is live as a whole; a model or storage is live only through the
//! output slots that somebody still reads, so a loader's MODEL may leave the device while its VAE
//! stays.
//!
//! The executor's own blocking tables are not enough: a link whose source has finished is gone
//! from them although its consumer has yet to read it. So the links of every pending node count.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::{Execution, Link, NodeFact, Reads, SlotFact};

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
    let mut need = Need::of(execution);
    for node in execution.nodes.iter().filter(|node| is_waiting(execution, node)) {
        // A pending node may already have a cached result: staging it again must find it.
        if let Some(entry) = cached(execution, node) {
            need.live.keep_whole(execution, entry, &node.id);
        }
        need.keep_reads(node, &node.id);
    }
    need.keep_outputs_of_bodies();
    need.keep_held();
    need.keep_children();
    for given in &execution.loop_results {
        need.live.keep_all(&given.storages, &given.models, &given.node);
    }
    need.live
}

/// Whether a node is still to run, other than the one that runs now.
fn is_waiting(execution: &Execution, node: &NodeFact) -> bool {
    node.pending && node.id != execution.running
}

/// The node's cached output. A number that points nowhere is no result.
fn cached(execution: &Execution, node: &NodeFact) -> Option<u32> {
    node.entry.filter(|entry| (*entry as usize) < execution.entries.len())
}

/// A live set while it is found.
struct Need<'a> {
    execution: &'a Execution,
    nodes: BTreeMap<&'a str, &'a NodeFact>,
    live: LiveSet,
    /// Nodes whose sources were followed all the way up.
    followed: BTreeSet<&'a str>,
    /// The first node for which that was done.
    copier: Option<String>,
}

impl<'a> Need<'a> {
    fn of(execution: &'a Execution) -> Self {
        let nodes = execution.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        Self { execution, nodes, live: LiveSet::default(), followed: BTreeSet::new(), copier: None }
    }

    /// Keeps what a node that will run reads.
    fn keep_reads(&mut self, node: &'a NodeFact, consumer: &str) {
        if let Some(results) = &node.expanded {
            // Whatever it read before, it was given; what it became has links of its own.
            results.iter().for_each(|link| self.keep_link(link, consumer));
            return;
        }
        match node.reads {
            Reads::Links => node.links.iter().for_each(|link| self.keep_link(link, consumer)),
            Reads::Upstream => self.keep_upstream(node, consumer),
            Reads::Anything => {
                self.live.unreadable.get_or_insert_with(|| node.id.clone());
                node.links.iter().for_each(|link| self.keep_link(link, consumer));
            }
        }
    }

    /// Keeps what a node and its sources read, all the way up: a copy of any of them may run.
    fn keep_upstream(&mut self, node: &'a NodeFact, consumer: &str) {
        self.copier.get_or_insert_with(|| consumer.to_owned());
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            if !self.followed.insert(&node.id) {
                continue;
            }
            if node.reads == Reads::Anything {
                self.live.unreadable.get_or_insert_with(|| node.id.clone());
            }
            // A copy starts from its inputs, also that of a node which has expanded.
            for link in &node.links {
                self.keep_link(link, consumer);
                stack.extend(self.nodes.get(link.source.as_str()));
            }
            stack.extend(node.names.iter().filter_map(|id| self.nodes.get(id.as_str())));
        }
    }

    /// Some packs copy a loop's output nodes too: those that read what may be copied, and were made
    /// along with it.
    fn keep_outputs_of_bodies(&mut self) {
        let Some(copier) = self.copier.clone() else { return };
        loop {
            let before = self.followed.len();
            for node in self.execution.nodes.iter().filter(|node| node.output) {
                let reads_a_body = node.links.iter().any(|link| {
                    self.followed.contains(link.source.as_str())
                        && self.nodes.get(link.source.as_str()).map(|source| &source.parent)
                            == Some(&node.parent)
                });
                if reads_a_body {
                    self.keep_upstream(node, &copier);
                }
            }
            if self.followed.len() == before {
                return;
            }
        }
    }

    /// Keeps what one link reads. Where the source has no result yet and is not pending either
    /// (an input that is evaluated only on demand), what it would read is kept, so that computing
    /// it needs nothing that was thrown away.
    fn keep_link(&mut self, link: &'a Link, consumer: &str) {
        let (execution, mut stack) = (self.execution, vec![link]);
        let mut seen = BTreeSet::new();
        while let Some(link) = stack.pop() {
            let Some(node) = self.nodes.get(link.source.as_str()).copied() else { continue };
            if let Some(entry) = cached(execution, node) {
                self.live.keep_slot_of(execution, entry, link.slot, consumer);
            } else if !node.pending && seen.insert(&node.id) {
                match node.reads {
                    Reads::Links => {}
                    Reads::Upstream => self.keep_upstream(node, consumer),
                    Reads::Anything => {
                        self.live.unreadable.get_or_insert_with(|| node.id.clone());
                    }
                }
                stack.extend(&node.links);
            }
        }
    }

    /// Keeps what the executor itself holds for nodes that wait.
    fn keep_held(&mut self) {
        for (entry, fact) in (0u32..).zip(&self.execution.entries) {
            for consumer in fact.held_for.iter().filter(|id| **id != self.execution.running) {
                self.live.entries.entry(entry).or_insert_with(|| consumer.clone());
                // The links of a consumer say what it reads; one without a description may read all.
                if !self.nodes.contains_key(consumer.as_str()) {
                    self.live.keep_whole(self.execution, entry, consumer);
                }
            }
        }
    }

    /// Keeps the results of nodes that were made for one that waits and does not say for which of
    /// them.
    fn keep_children(&mut self) {
        for node in &self.execution.nodes {
            let Some(entry) = cached(self.execution, node) else { continue };
            if let Some(parent) = self.parent_that_may_read(node) {
                self.live.keep_whole(self.execution, entry, &parent);
            }
        }
    }

    /// The nearest expansion parent that may read any of its children's results.
    fn parent_that_may_read(&self, node: &NodeFact) -> Option<String> {
        let mut seen = BTreeSet::new();
        let mut parent = node.parent.as_deref();
        while let Some(id) = parent {
            if !seen.insert(id) {
                return None;
            }
            // A parent the host did not describe may be anything: treat it as pending.
            let Some(fact) = self.nodes.get(id) else { return Some(id.to_owned()) };
            if is_waiting(self.execution, fact) && fact.expanded.is_none() {
                return Some(id.to_owned());
            }
            parent = fact.parent.as_deref();
        }
        None
    }
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

    fn keep_slot(&mut self, slot: &SlotFact, consumer: &str) {
        self.keep_all(&slot.storages, &slot.models, consumer);
    }

    fn keep_all(&mut self, storages: &[u32], models: &[u32], consumer: &str) {
        self.storages.extend(storages);
        for model in models {
            self.models.entry(*model).or_insert_with(|| consumer.to_owned());
        }
    }

    /// Keeps an entry, and what one of its slots holds.
    fn keep_slot_of(&mut self, execution: &Execution, entry: u32, slot: u32, consumer: &str) {
        self.entries.entry(entry).or_insert_with(|| consumer.to_owned());
        let slots = execution.entries.get(entry as usize).and_then(|fact| fact.slots.as_ref());
        match slots.and_then(|slots| slots.get(slot as usize)) {
            Some(fact) => self.keep_slot(fact, consumer),
            // A slot that is not there: keep all of it rather than guess.
            None => self.keep_whole(execution, entry, consumer),
        }
    }
}
