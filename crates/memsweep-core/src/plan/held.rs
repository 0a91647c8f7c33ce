//! What becomes of memory that somebody still holds.

use std::collections::BTreeSet;

use crate::action::Action;
use crate::inventory::{Executor, Inventory};
use crate::level::Level;
use crate::live::LiveSet;
use crate::names::Names;
use crate::plan::{Step, entries};
use crate::policy::Policy;
use crate::reason::{Note, Release, Why};

/// The destroy step and the park step, where the level includes them.
pub(super) fn decide(
    inventory: &Inventory,
    policy: &Policy,
    live: &LiveSet,
    evict: &[Step],
    notes: &mut Vec<Why<Note>>,
) -> (Option<Step>, Option<Step>) {
    if policy.level < Level::Park || inventory.is_targeted() {
        return (None, None);
    }
    let mut keep: BTreeSet<u32> = inventory.connected.storages.iter().copied().collect();
    keep.extend(&live.storages);
    let destroy = if policy.level == Level::Destroy {
        match destroy(inventory, keep.clone(), live, evict) {
            Ok(step) => Some(step),
            Err(why) => {
                notes.push(Why(why));
                None
            }
        }
    } else {
        None
    };
    (destroy, park(policy, keep.into_iter().collect()))
}

/// The step that moves idle memory to disk. It harms nobody, so it needs no more facts than these:
/// whoever reads the memory waits for the disk, and gets the same bytes.
pub(super) fn park(policy: &Policy, keep: Vec<u32>) -> Option<Step> {
    Some(Step {
        action: Action::Park { keep, limits: policy.park.clone()? },
        what: "memory that is held and idle".to_owned(),
        because: Release::HeldAndIdle,
        estimated: None,
    })
}

/// The step that takes memory away. It is left out where it is unknown what the nodes still to run
/// need. No cached output may serve memory that was taken, so whatever a cache still holds stays.
fn destroy(
    inventory: &Inventory,
    mut keep: BTreeSet<u32>,
    live: &LiveSet,
    evict: &[Step],
) -> Result<Step, Note> {
    match &inventory.executor {
        Executor::Absent => {}
        Executor::Unidentified { reason } => {
            return Err(Note::NotDestroyedExecutorUnknown { reason: reason.clone() });
        }
        Executor::Identified(execution) => {
            let names = Names::of(inventory);
            if let Some(node) = live.unreadable.as_ref().or(live.any_model.as_ref()) {
                return Err(Note::NotDestroyedAnyOutput { node: names.node(node) });
            }
            let going: BTreeSet<u32> = evict
                .iter()
                .filter_map(|step| match &step.action {
                    Action::Evict { entries } => Some(entries),
                    _ => None,
                })
                .flatten()
                .copied()
                .collect();
            for (number, entry) in (0u32..).zip(&execution.entries) {
                if going.contains(&number) {
                    continue;
                }
                if entry.slots.is_none() {
                    return Err(Note::NotDestroyedUnreadable { entry: names.entry(number, entry) });
                }
                keep.extend(entries::storages(entry));
            }
        }
    }
    Ok(Step {
        action: Action::Destroy { keep: keep.into_iter().collect() },
        what: "tensors that somebody still holds".to_owned(),
        because: Release::HeldAndNotNeeded,
        estimated: None,
    })
}
