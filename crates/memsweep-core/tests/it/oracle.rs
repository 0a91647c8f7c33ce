//! The rules a second time, as plainly as possible, to check the planner against.
//!
//! Written from the contract, not from the planner: sets grown until they stop growing, no
//! shortcuts, no order. It says only what goes; the reasons are the planner's own affair.

use std::collections::BTreeSet;

use memsweep_core::inventory::{EntryFact, Execution, Executor, Inventory, Link, NodeFact, Reads};

/// Entries and models that go at level `evict`, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) evicted: BTreeSet<u32>,
    pub(crate) unloaded: BTreeSet<u32>,
    /// Storages that are connected or read by somebody.
    pub(crate) protected: BTreeSet<u32>,
}

/// What may go.
pub(crate) fn judge(inventory: &Inventory) -> Verdict {
    let nothing = Execution::default();
    let execution = match &inventory.executor {
        Executor::Identified(execution) => execution,
        _ => &nothing,
    };
    let needs = Needs::of(execution);
    let by_name = inventory.only_targets || !inventory.targets.is_empty();
    let chosen = |model: u32| !by_name || inventory.targets.contains(&model);
    let unloaded = numbers(inventory.models.len())
        .filter(|model| chosen(*model) && inventory.models[*model as usize].loaded)
        .filter(|model| !inventory.connected.models.contains(model))
        .filter(|model| !needs.models.contains(model) && !needs.anything)
        .filter(|model| inventory.models[*model as usize].in_use_by.is_none())
        .collect();
    let mut protected: BTreeSet<u32> = inventory.connected.storages.iter().copied().collect();
    protected.extend(&needs.storages);
    let evicted = if execution.keeps_nothing {
        BTreeSet::new()
    } else if !by_name {
        evicted(inventory, execution, &needs, &protected)
    } else {
        evicted_for_targets(inventory, execution, &needs)
    };
    Verdict { evicted, unloaded, protected }
}

#[derive(Default)]
struct Needs {
    entries: BTreeSet<u32>,
    models: BTreeSet<u32>,
    storages: BTreeSet<u32>,
    /// Nodes of this prompt may read any entry of it.
    whole_prompt: bool,
    /// They may use any model.
    anything: bool,
}

impl Needs {
    fn of(execution: &Execution) -> Self {
        let mut needs = Self::default();
        let waiting: BTreeSet<&str> = execution
            .nodes
            .iter()
            .filter(|node| node.pending && node.id != execution.running)
            .map(|node| node.id.as_str())
            .collect();

        // Links that will be read: what nodes that expanded wait for, and the inputs of readers. Those
        // are the nodes that wait, what the ones with the whole prompt may copy, and what has to run
        // first although it is not listed.
        let waiting_for: Vec<&Link> = execution
            .nodes
            .iter()
            .filter(|node| waiting.contains(node.id.as_str()))
            .filter_map(|node| node.expanded.as_ref())
            .flatten()
            .collect();
        let mut readers: BTreeSet<&str> = execution
            .nodes
            .iter()
            .filter(|node| waiting.contains(node.id.as_str()) && node.expanded.is_none())
            .map(|node| node.id.as_str())
            .collect();
        let mut copied: BTreeSet<&str> = BTreeSet::new();
        loop {
            let before = (readers.len(), copied.len());
            for node in &execution.nodes {
                let id = node.id.as_str();
                if readers.contains(id) && node.reads == Reads::Upstream {
                    copied.insert(id);
                }
                // An output node that was made along with what may be copied, and reads it.
                let beside = node.links.iter().any(|link| {
                    copied.contains(link.source.as_str())
                        && find(execution, &link.source)
                            .is_some_and(|one| one.parent == node.parent)
                });
                if node.output && beside {
                    copied.insert(id);
                }
                if copied.contains(id) {
                    copied.extend(node.links.iter().map(|link| link.source.as_str()));
                    copied.extend(node.names.iter().map(String::as_str));
                    readers.insert(id);
                }
            }
            let read: Vec<&Link> = read_links(execution, &readers, &waiting_for);
            for link in read {
                let Some(source) = find(execution, &link.source) else { continue };
                if !source.pending && entry_of(execution, source).is_none() {
                    readers.insert(&source.id);
                }
            }
            if before == (readers.len(), copied.len()) {
                break;
            }
        }
        for reader in execution.nodes.iter().filter(|node| readers.contains(node.id.as_str())) {
            if reader.reads == Reads::Anything {
                needs.whole_prompt = true;
                needs.anything = true;
            }
        }
        for link in read_links(execution, &readers, &waiting_for) {
            let Some(source) = find(execution, &link.source) else { continue };
            if let Some(entry) = entry_of(execution, source) {
                needs.read(execution, entry, Some(link.slot));
            }
        }
        for node in &execution.nodes {
            let Some(entry) = entry_of(execution, node) else { continue };
            if waiting.contains(node.id.as_str()) || inside_a_waiting(execution, node, &waiting) {
                needs.read(execution, entry, None);
            }
        }
        for entry in numbers(execution.entries.len()) {
            for consumer in &execution.entries[entry as usize].held_for {
                if *consumer == execution.running {
                    continue;
                }
                needs.entries.insert(entry);
                if find(execution, consumer).is_none() {
                    needs.read(execution, entry, None);
                }
            }
        }
        for given in &execution.loop_results {
            needs.models.extend(&given.models);
            needs.storages.extend(&given.storages);
        }
        needs
    }

    fn read(&mut self, execution: &Execution, entry: u32, slot: Option<u32>) {
        self.entries.insert(entry);
        let Some(slots) = &execution.entries[entry as usize].slots else {
            self.anything = true;
            return;
        };
        let one = slot.filter(|slot| (*slot as usize) < slots.len());
        for (number, fact) in slots.iter().enumerate() {
            if one.is_none_or(|one| one as usize == number) {
                self.models.extend(&fact.models);
                self.storages.extend(&fact.storages);
            }
        }
    }
}

fn read_links<'a>(
    execution: &'a Execution,
    readers: &BTreeSet<&str>,
    waiting_for: &[&'a Link],
) -> Vec<&'a Link> {
    let reading = execution.nodes.iter().filter(|node| readers.contains(node.id.as_str()));
    reading.flat_map(|node| &node.links).chain(waiting_for.iter().copied()).collect()
}

/// An expansion parent, however far up, waits and does not say for what, or is unknown.
fn inside_a_waiting(execution: &Execution, node: &NodeFact, waiting: &BTreeSet<&str>) -> bool {
    let mut at = node;
    for _ in 0..=execution.nodes.len() {
        let Some(parent) = &at.parent else { return false };
        let Some(fact) = find(execution, parent) else { return true };
        if waiting.contains(parent.as_str()) && fact.expanded.is_none() {
            return true;
        }
        at = fact;
    }
    false
}

/// Whether somebody outside the prompt works with a model of this entry, of those that `is_meant`
/// accepts.
fn is_worked_with(
    inventory: &Inventory,
    entry: &EntryFact,
    is_meant: impl Fn(u32) -> bool,
) -> bool {
    entry.slots.iter().flatten().flat_map(|slot| slot.models.clone()).any(|model| {
        let fact = inventory.models.get(model as usize);
        is_meant(model) && fact.is_some_and(|fact| fact.in_use_by.is_some())
    })
}

fn evicted(
    inventory: &Inventory,
    execution: &Execution,
    needs: &Needs,
    protected: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let feeds_any = execution.nodes.iter().any(|node| node.output && node.reads == Reads::Anything);
    let stays = |number: u32| {
        let entry = &execution.entries[number as usize];
        let in_prompt = owners(execution, number).next().is_some();
        needs.entries.contains(&number)
            || (in_prompt && needs.whole_prompt)
            || (in_prompt && feeds_any && !entry.unfindable)
            || entry.has_ui
            || entry.unrepeatable
            || owners(execution, number).any(|node| node.output || node.unrepeatable)
            || (!entry.unfindable
                && owners(execution, number).any(|node| feeds_output(execution, &node.id)))
            || entry.slots.is_none()
            || is_worked_with(inventory, entry, |_| true)
    };
    let all = numbers(execution.entries.len());
    let staying: BTreeSet<u32> = all.clone().filter(|number| stays(*number)).collect();
    let mut held = protected.clone();
    for number in &staying {
        held.extend(storages(&execution.entries[*number as usize]));
    }
    all.filter(|number| !staying.contains(number))
        .filter(|number| {
            let entry = &execution.entries[*number as usize];
            entry.slots.iter().flatten().any(|slot| {
                let all_held = slot.storages.iter().all(|storage| held.contains(storage));
                !slot.plain && (slot.storages.is_empty() || !all_held)
            })
        })
        .collect()
}

fn evicted_for_targets(
    inventory: &Inventory,
    execution: &Execution,
    needs: &Needs,
) -> BTreeSet<u32> {
    if needs.whole_prompt
        || inventory.targets.iter().any(|model| inventory.connected.models.contains(model))
    {
        return BTreeSet::new();
    }
    numbers(execution.entries.len())
        .filter(|number| {
            let entry = &execution.entries[*number as usize];
            let holds = entry
                .slots
                .iter()
                .flatten()
                .any(|slot| slot.models.iter().any(|model| inventory.targets.contains(model)));
            holds
                && !needs.entries.contains(number)
                && !entry.has_ui
                && !is_worked_with(inventory, entry, |model| inventory.targets.contains(&model))
                && !owners(execution, *number).any(|node| node.output)
        })
        .collect()
}

fn feeds_output(execution: &Execution, id: &str) -> bool {
    let outputs = execution.nodes.iter().filter(|node| node.output);
    outputs.flat_map(|node| &node.links).any(|link| link.source == id)
}

fn owners(execution: &Execution, entry: u32) -> impl Iterator<Item = &NodeFact> {
    execution.nodes.iter().filter(move |node| node.entry == Some(entry))
}

fn storages(entry: &EntryFact) -> Vec<u32> {
    entry.slots.iter().flatten().flat_map(|slot| slot.storages.clone()).collect()
}

fn find<'a>(execution: &'a Execution, id: &str) -> Option<&'a NodeFact> {
    execution.nodes.iter().find(|node| node.id == id)
}

fn entry_of(execution: &Execution, node: &NodeFact) -> Option<u32> {
    node.entry.filter(|entry| (*entry as usize) < execution.entries.len())
}

fn numbers(count: usize) -> impl Iterator<Item = u32> + Clone {
    0..u32::try_from(count).unwrap()
}
