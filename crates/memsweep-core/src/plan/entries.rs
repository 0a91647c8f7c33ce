//! Which output-cache entries go.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::Action;
use crate::bytes::Bytes;
use crate::inventory::{EntryFact, Execution, Executor, Inventory, Reads};
use crate::live::LiveSet;
use crate::names::Names;
use crate::plan::{Kept, Step, listed, targets};
use crate::reason::{Keep, Release};

/// The evict step, if any entry can go; the others are noted as kept.
pub(super) fn decide(
    inventory: &Inventory,
    execution: &Execution,
    live: &LiveSet,
    kept: &mut Vec<Kept>,
) -> Option<Step> {
    if inventory.is_targeted() {
        return targets::decide(inventory, execution, live, kept);
    }
    let rules = Rules::new(execution, live, Names::of(inventory));
    let mut staying: BTreeMap<u32, Keep> = BTreeMap::new();
    for (number, entry) in (0u32..).zip(&execution.entries) {
        // Last: whoever uses a model does not need the rest of its entry, but while the model is
        // held, dropping the entry would only bring a second copy into memory.
        if let Some(because) =
            rules.keep(number, entry).or_else(|| in_use(inventory, entry, |_| true))
        {
            staying.insert(number, because);
        }
    }

    // Memory that stays whatever we drop: dropping an entry that holds nothing else has only costs.
    let mut held: BTreeSet<u32> = inventory.connected.storages.iter().copied().collect();
    held.extend(&live.storages);
    for number in staying.keys() {
        held.extend(storages(&execution.entries[*number as usize]));
    }
    for (number, entry) in (0u32..).zip(&execution.entries) {
        if !staying.contains_key(&number) && gains_nothing(entry, &held) {
            staying.insert(number, Keep::NothingToGain);
        }
    }

    let going = (0u32..)
        .zip(&execution.entries)
        .filter(|(number, _)| !staying.contains_key(number))
        .map(|(number, _)| number)
        .collect();
    note_kept(inventory, execution, staying, kept);
    step(inventory, execution, going, &held)
}

/// The reason to keep an entry while somebody outside the prompt is using a model that it holds, of
/// those that `is_meant` accepts.
pub(super) fn in_use(
    inventory: &Inventory,
    entry: &EntryFact,
    is_meant: impl Fn(&u32) -> bool,
) -> Option<Keep> {
    let models = entry.slots.iter().flatten().flat_map(|slot| &slot.models);
    let user = |number: &u32| inventory.models.get(*number as usize)?.in_use_by.clone();
    models.filter(|model| is_meant(model)).find_map(user).map(|by| Keep::InUse { by })
}

/// Records the entries that stay.
pub(super) fn note_kept(
    inventory: &Inventory,
    execution: &Execution,
    staying: BTreeMap<u32, Keep>,
    kept: &mut Vec<Kept>,
) {
    let names = Names::of(inventory);
    let mut rows: Vec<(String, Keep, Vec<&EntryFact>)> = Vec::new();
    for (number, because) in staying {
        let Some(entry) = execution.entries.get(number as usize) else { continue };
        let what = names.entry(number, entry);
        match rows.iter_mut().find(|(name, why, _)| (name, why) == (&what, &because)) {
            Some((_, _, entries)) => entries.push(entry),
            None => rows.push((what, because, vec![entry])),
        }
    }
    for (what, because, entries) in rows {
        // What an entry of unknown shape holds is unknown, not nothing. What several hold counts once.
        let known = entries.iter().all(|entry| entry.slots.is_some());
        let held = || entries.iter().flat_map(|entry| storages(entry)).collect();
        let bytes = known.then(|| size(inventory, &held()));
        kept.push(Kept { what: listed::times(entries.len(), &what), bytes, because });
    }
}

/// Records what loops gave and nobody has taken yet: no cache has it.
pub(super) fn note_loop_results(inventory: &Inventory, kept: &mut Vec<Kept>) {
    let Executor::Identified(execution) = &inventory.executor else { return };
    let names = Names::of(inventory);
    for given in execution.loop_results.iter().filter(|given| !given.storages.is_empty()) {
        let bytes = size(inventory, &given.storages.iter().copied().collect());
        let because = Keep::LoopResult { node: names.node(&given.node) };
        kept.push(Kept { what: "results of a loop".to_owned(), bytes: Some(bytes), because });
    }
}

/// The step that drops these entries; its estimate leaves out memory that stays held.
pub(super) fn step(
    inventory: &Inventory,
    execution: &Execution,
    going: Vec<u32>,
    held: &BTreeSet<u32>,
) -> Option<Step> {
    let names = Names::of(inventory);
    let (mut named, mut dropped) = (Vec::new(), BTreeSet::new());
    for number in &going {
        let Some(entry) = execution.entries.get(*number as usize) else { continue };
        named.push(names.entry(*number, entry));
        dropped.extend(storages(entry).filter(|storage| !held.contains(storage)));
    }
    if going.is_empty() {
        return None;
    }
    let plural = if going.len() == 1 { "node" } else { "nodes" };
    Some(Step {
        what: format!("cached outputs of {} {plural}", going.len()),
        action: Action::Evict { entries: going },
        because: Release::NoReaderLeft { entries: listed::names(named) },
        estimated: Some(size(inventory, &dropped)),
    })
}

struct Rules<'a> {
    live: &'a LiveSet,
    names: Names<'a>,
    of_output_nodes: BTreeSet<u32>,
    feeding: BTreeMap<u32, &'a str>,
    of_this_prompt: BTreeSet<u32>,
    unrepeatable: BTreeSet<u32>,
    /// An output node whose inputs are unknown: any entry of its prompt may feed it.
    unread_output: Option<&'a str>,
}

impl<'a> Rules<'a> {
    fn new(execution: &'a Execution, live: &'a LiveSet, names: Names<'a>) -> Self {
        let entry_of: BTreeMap<&str, u32> = execution
            .nodes
            .iter()
            .filter_map(|node| Some((node.id.as_str(), node.entry?)))
            .collect();
        let outputs = || execution.nodes.iter().filter(|node| node.output);
        let feeding = outputs()
            .flat_map(|node| node.links.iter().map(move |link| (link, node.id.as_str())))
            .filter_map(|(link, id)| Some((*entry_of.get(link.source.as_str())?, id)))
            .collect();
        Self {
            live,
            names,
            of_output_nodes: outputs().filter_map(|node| node.entry).collect(),
            feeding,
            of_this_prompt: execution.nodes.iter().filter_map(|node| node.entry).collect(),
            unrepeatable: execution
                .nodes
                .iter()
                .filter(|node| node.unrepeatable)
                .filter_map(|node| node.entry)
                .collect(),
            unread_output: outputs()
                .find(|node| node.reads == Reads::Anything)
                .map(|node| node.id.as_str()),
        }
    }

    fn keep(&self, number: u32, entry: &EntryFact) -> Option<Keep> {
        if let Some(node) = self.live.entries.get(&number) {
            return Some(Keep::NeededBy { node: self.names.node(node) });
        }
        if let (Some(node), true) = (&self.live.unreadable, self.of_this_prompt.contains(&number)) {
            return Some(Keep::UnreadableNode { node: self.names.node(node) });
        }
        if entry.has_ui || self.of_output_nodes.contains(&number) {
            return Some(Keep::OutputNode);
        }
        let unread = self.unread_output.filter(|_| self.of_this_prompt.contains(&number));
        // It stays for a later prompt, which would run the output node again without it.
        let feeds = self.feeding.get(&number).copied().or(unread);
        if let Some(node) = feeds.filter(|_| !entry.unfindable) {
            return Some(Keep::FeedsOutputNode { node: self.names.node(node) });
        }
        if entry.unrepeatable || self.unrepeatable.contains(&number) {
            return Some(Keep::Unrepeatable);
        }
        entry.slots.is_none().then_some(Keep::Unreadable)
    }
}

pub(super) fn storages(entry: &EntryFact) -> impl Iterator<Item = u32> + '_ {
    entry.slots.iter().flatten().flat_map(|slot| slot.storages.iter().copied())
}

/// True when every output is a plain value, or holds only memory that stays anyway. An output of
/// a kind we cannot see into (no storages, not plain) may hold anything, so dropping it may gain
/// something.
fn gains_nothing(entry: &EntryFact, held: &BTreeSet<u32>) -> bool {
    entry.slots.iter().flatten().all(|slot| {
        slot.plain || (!slot.storages.is_empty() && slot.storages.iter().all(|s| held.contains(s)))
    })
}

/// The bytes of these storages.
pub(super) fn size(inventory: &Inventory, storages: &BTreeSet<u32>) -> Bytes {
    storages
        .iter()
        .filter_map(|number| inventory.storages.get(*number as usize))
        .map(|fact| fact.bytes)
        .sum()
}
