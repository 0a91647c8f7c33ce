//! Which managed models leave their device.

use std::collections::BTreeSet;

use crate::action::Action;
use crate::bytes::Bytes;
use crate::inventory::{Inventory, ModelFact};
use crate::live::LiveSet;
use crate::names::{self, Names};
use crate::plan::{Kept, Step};
use crate::reason::{Keep, Release};

/// One step per model that is neither connected, live nor in use elsewhere; the others are noted
/// as kept. A prompt can load its models again when it comes to them; whoever is in the middle of
/// computing with one would continue with weights that have lost their patches.
pub(super) fn decide(inventory: &Inventory, live: &LiveSet, kept: &mut Vec<Kept>) -> Vec<Step> {
    let connected: BTreeSet<u32> = inventory.connected.models.iter().copied().collect();
    let names = Names::of(inventory);
    let mut steps = Vec::new();
    for (number, model) in (0u32..).zip(&inventory.models) {
        let chosen = !inventory.is_targeted() || inventory.targets.contains(&number);
        if !chosen || !model.loaded {
            continue;
        }
        let because = if connected.contains(&number) {
            Keep::Connected
        } else if let Some(node) = live.models.get(&number) {
            Keep::NeededBy { node: names.node(node) }
        } else if let Some(node) = live.unreadable.as_ref().or(live.any_model.as_ref()) {
            Keep::UnreadableNode { node: names.node(node) }
        } else if let Some(by) = &model.in_use_by {
            Keep::InUse { by: by.clone() }
        } else {
            steps.push(unload(number, model));
            continue;
        };
        let what = names::model_on_its_device(model);
        kept.push(Kept { what, bytes: model.bytes, because });
    }
    steps
}

fn unload(number: u32, model: &ModelFact) -> Step {
    // With `--highvram`, `--gpu-only` or on the CPU a model is kept where it runs. Unloading gives
    // back at most what its patches took; its weights go with the last cached output that holds it.
    let stays = model.offload_device.as_ref() == Some(&model.device);
    let because = if stays {
        Release::NotNeededAndStaysOn { device: model.device.clone() }
    } else {
        Release::NotNeeded
    };
    Step {
        action: Action::Unload { model: number, name: names::model(model) },
        what: names::model_on_its_device(model),
        because,
        estimated: if stays || model.device.starts_with("cpu") {
            Some(Bytes::ZERO)
        } else {
            model.bytes
        },
    }
}
