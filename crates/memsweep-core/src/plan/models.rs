//! Which managed models leave their device.

use std::collections::BTreeSet;

use crate::action::Action;
use crate::bytes::Bytes;
use crate::inventory::Inventory;
use crate::live::LiveSet;
use crate::plan::{Kept, Step};
use crate::reason::{Keep, Release};

/// One step per model that is neither connected nor live; the others are noted as kept.
pub(super) fn decide(inventory: &Inventory, live: &LiveSet, kept: &mut Vec<Kept>) -> Vec<Step> {
    let connected: BTreeSet<u32> = inventory.connected.models.iter().copied().collect();
    let mut steps = Vec::new();
    for (number, model) in (0u32..).zip(&inventory.models) {
        let chosen = !inventory.is_targeted() || inventory.targets.contains(&number);
        if !chosen || !model.loaded {
            continue;
        }
        let because = if connected.contains(&number) {
            Keep::Connected
        } else if let Some(node) = live.models.get(&number) {
            Keep::NeededBy { node: node.clone() }
        } else if let Some(node) = live.unreadable.as_ref().or(live.any_model.as_ref()) {
            Keep::UnreadableNode { node: node.clone() }
        } else {
            // A model on the CPU gives nothing back by being unloaded; its memory goes when the
            // last cached output that holds it goes.
            let estimated =
                if model.device.starts_with("cpu") { Some(Bytes::ZERO) } else { model.bytes };
            steps.push(Step {
                action: Action::Unload { model: number, name: model.name.clone() },
                what: format!("model {} on {}", model.name, model.device),
                because: Release::NotNeeded,
                estimated,
            });
            continue;
        };
        kept.push(Kept {
            what: format!("model {} on {}", model.name, model.device),
            bytes: model.bytes,
            because,
        });
    }
    steps
}
