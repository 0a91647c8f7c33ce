//! Releasing one model by name: every cached output that holds it goes, nothing else does.
//!
//! The user asked for this model, so feeding an output node is no reason to keep it; being needed
//! later, being connected, or being what the front-end shows still is.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::{EntryFact, Execution, Inventory};
use crate::live::LiveSet;
use crate::names::Names;
use crate::plan::{Kept, Step, entries};
use crate::reason::Keep;

/// The evict step for the entries that hold a target.
pub(super) fn decide(
    inventory: &Inventory,
    execution: &Execution,
    live: &LiveSet,
    kept: &mut Vec<Kept>,
) -> Option<Step> {
    let names = Names::of(inventory);
    let targets: BTreeSet<u32> = inventory.targets.iter().copied().collect();
    let connected = inventory.connected.models.iter().any(|model| targets.contains(model));
    let outputs: BTreeSet<u32> =
        execution.nodes.iter().filter(|node| node.output).filter_map(|node| node.entry).collect();

    let (mut going, mut staying, mut held) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    held.extend(&inventory.connected.storages);
    held.extend(&live.storages);
    for (number, entry) in (0u32..).zip(&execution.entries) {
        if !holds(entry, &targets) {
            held.extend(entries::storages(entry));
        } else if let Some(node) = live.entries.get(&number) {
            staying.insert(number, Keep::NeededBy { node: names.node(node) });
        } else if let Some(node) = &live.unreadable {
            staying.insert(number, Keep::UnreadableNode { node: names.node(node) });
        } else if connected {
            staying.insert(number, Keep::Connected);
        } else if let Some(because) =
            entries::in_use(inventory, entry, |model| targets.contains(model))
        {
            staying.insert(number, because);
        } else if entry.has_ui || outputs.contains(&number) {
            staying.insert(number, Keep::OutputNode);
        } else {
            going.push(number);
        }
    }
    for number in staying.keys() {
        held.extend(
            execution.entries.get(*number as usize).into_iter().flat_map(entries::storages),
        );
    }
    entries::note_kept(inventory, execution, staying, kept);
    entries::step(inventory, execution, going, &held)
}

fn holds(entry: &EntryFact, targets: &BTreeSet<u32>) -> bool {
    entry.slots.iter().flatten().flat_map(|slot| &slot.models).any(|model| targets.contains(model))
}
