//! What is known of those who hold memory after a sweep.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::Action;
use crate::bytes::Bytes;
use crate::inventory::{Executor, Inventory};
use crate::names::Names;
use crate::plan::Step;
use crate::reason::{Holder, Why};
use crate::rest::Rest;

/// What is connected, and each cached output that stays, on each device; then the graphs. Memory of a model that the host manages is
/// left out, because that is a fact of its own; memory that several hold counts once.
pub(super) fn holders(inventory: &Inventory, steps: &[Step]) -> Vec<Rest> {
    let mut left_out = BTreeSet::new();
    let none = Vec::new();
    let (entries, names) = match &inventory.executor {
        Executor::Identified(execution) => (&execution.entries, Names::of(inventory)),
        _ => (&none, Names::of(inventory)),
    };
    let slots = || entries.iter().flat_map(|entry| entry.slots.iter().flatten());
    left_out.extend(
        slots().filter(|slot| !slot.models.is_empty()).flat_map(|slot| slot.storages.clone()),
    );
    let mut rows = Rest::of_errors(&inventory.notes);
    let connected = &inventory.connected;
    // Which of it is a model's cannot be told.
    if connected.models.is_empty() {
        for (device, bytes) in by_device(inventory, &connected.storages, &mut left_out) {
            rows.extend(Rest::known(Some(bytes), Holder::Connected { device }));
        }
    }
    let has_graph = |storages: &[u32]| {
        let facts = storages.iter().filter_map(|number| inventory.storages.get(*number as usize));
        facts.into_iter().any(|fact| fact.graph)
    };
    let mut graphs = BTreeSet::new();
    if has_graph(&connected.storages) {
        graphs.insert(None);
    }
    let mut outputs: BTreeMap<(String, String), Bytes> = BTreeMap::new();
    for (number, entry) in (0u32..).zip(entries) {
        let goes = |step: &Step| matches!(&step.action, Action::Evict { entries } if entries.contains(&number));
        if steps.iter().any(goes) {
            continue;
        }
        let storages = super::entries::storages(entry).collect::<Vec<_>>();
        if has_graph(&storages) {
            graphs.insert(Some(names.entry(number, entry)));
        }
        for (device, bytes) in by_device(inventory, &storages, &mut left_out) {
            let sum = outputs.entry((device, names.entry(number, entry))).or_default();
            *sum = sum.plus(bytes);
        }
    }
    rows.extend(outputs.into_iter().filter_map(|((device, what), bytes)| {
        Rest::known(Some(bytes), Holder::Output { device, what })
    }));
    let graph = |output| Rest { bytes: None, why: Why(Holder::Graph { output }) };
    rows.extend(graphs.into_iter().map(graph));
    rows
}

/// The bytes of these storages on each device, but for what is left out; they are left out from then on.
fn by_device(
    inventory: &Inventory,
    storages: &[u32],
    left_out: &mut BTreeSet<u32>,
) -> BTreeMap<String, Bytes> {
    let mut sums: BTreeMap<String, Bytes> = BTreeMap::new();
    for number in storages {
        let Some(fact) = inventory.storages.get(*number as usize) else { continue };
        if fact.device != "cpu" && left_out.insert(*number) {
            let sum = sums.entry(fact.device.clone()).or_default();
            *sum = sum.plus(fact.bytes);
        }
    }
    sums
}
