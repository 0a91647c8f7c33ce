//! From facts and policy to an ordered list of steps, each with its reason, and a list of what
//! stays, each with its reason. Total and deterministic.

mod entries;
mod held;
mod listed;
mod models;
mod rest;
mod targets;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::bytes::Bytes;
use crate::inventory::{Executor, Inventory};
use crate::level::Level;
use crate::live::{LiveSet, live_set};
use crate::policy::Policy;
use crate::reason::{Keep, Note, Release, Why};
use crate::rest::Rest;

/// What a sweep will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The policy it follows.
    pub policy: Policy,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// What stays.
    pub kept: Vec<Kept>,
    /// What people should know, such as that parking is off or that the executor is not one we
    /// know.
    pub notes: Vec<Why<Note>>,
    /// Who holds memory that stays on a device, as far as the inventory tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest: Vec<Rest>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// For people: what it concerns.
    pub what: String,
    /// Why.
    pub because: Release,
    /// Bytes it should give back, by counting storages; `None` when that cannot be known
    /// beforehand.
    pub estimated: Option<Bytes>,
}

/// Something that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Kept {
    /// For people: what it is.
    pub what: String,
    /// Its size where known.
    pub bytes: Option<Bytes>,
    /// Why.
    pub because: Keep,
}

/// A plan with one step: to park what the host finds.
#[must_use]
pub fn park_only(policy: &Policy) -> Plan {
    let mut draft = Draft::new(policy);
    draft.steps.extend(held::park(policy, Vec::new()));
    draft.finish()
}

/// Decides. `inventory` may be empty for levels that need no facts.
#[must_use]
pub fn plan(inventory: &Inventory, policy: &Policy) -> Plan {
    let mut draft = Draft::new(policy);
    let level = policy.level;
    // What needs no facts needs no live set either, which costs time on a large prompt.
    let live = match &inventory.executor {
        Executor::Identified(execution) if level.needs_facts() => live_set(execution),
        _ => LiveSet::default(),
    };
    let (evict, unload) = draft.decide(inventory, &live);
    draft.rest = rest::holders(inventory, &evict);
    let (destroy, park) = held::decide(inventory, policy, &live, &evict, &mut draft.notes);

    if policy.goal.is_some() {
        // With a goal, climb the ladder one level at a time, so that the sweep can stop early.
        draft.push_trim(Level::Trim);
        if level >= Level::Collect {
            draft.push_collect(Level::Collect);
            draft.push_trim(Level::Collect);
        }
        if !unload.is_empty() {
            draft.steps.extend(unload);
            draft.push_after_release();
            draft.push_trim(Level::Unload);
        }
        if !evict.is_empty() {
            draft.steps.extend(evict);
            draft.push_after_release();
            draft.push_file_cache(inventory);
            draft.push_trim(Level::Evict);
        }
        draft.push_destroy(destroy);
        draft.steps.extend(park);
        if level >= Level::Park {
            draft.push_trim(Level::Park);
        }
    } else {
        // References first, so that the collector and the caches find something to return;
        // the heap last, when everything above has been freed into it.
        let unloads = !unload.is_empty();
        draft.steps.extend(evict);
        if level >= Level::Collect {
            draft.push_collect(Level::Collect);
        }
        draft.steps.extend(unload);
        if unloads {
            draft.push_after_release();
        }
        draft.push_destroy(destroy);
        draft.push_caches(Level::Trim);
        if level >= Level::Evict {
            draft.push_file_cache(inventory);
        }
        draft.steps.extend(park);
        draft.push_heap(Level::Trim);
    }
    draft.push_system_wide();
    draft.finish()
}

struct Draft {
    policy: Policy,
    steps: Vec<Step>,
    kept: Vec<Kept>,
    notes: Vec<Why<Note>>,
    rest: Vec<Rest>,
}

impl Draft {
    fn new(policy: &Policy) -> Self {
        let mut notes = Vec::new();
        if policy.requested != policy.level {
            notes.push(Why(Note::ParkingOff { level: policy.level }));
        }
        Self {
            policy: policy.clone(),
            steps: Vec::new(),
            kept: Vec::new(),
            notes,
            rest: Vec::new(),
        }
    }

    /// The evict steps and the unload steps, noting what stays on the way.
    fn decide(&mut self, inventory: &Inventory, live: &LiveSet) -> (Vec<Step>, Vec<Step>) {
        self.notes.extend(inventory.notes.iter().cloned());
        self.note_connected(inventory);
        if inventory.only_targets && inventory.targets.is_empty() {
            self.notes.push(Why(Note::NoTarget));
        }
        if self.policy.level < Level::Unload {
            return (Vec::new(), Vec::new());
        }
        let unload = models::decide(inventory, live, &mut self.kept);
        if self.policy.level < Level::Evict {
            return (Vec::new(), unload);
        }
        entries::note_loop_results(inventory, &mut self.kept);
        let evict = match &inventory.executor {
            Executor::Absent => Vec::new(),
            Executor::Unidentified { reason } => {
                self.notes.push(Why(Note::ExecutorUnknown { reason: reason.clone() }));
                Vec::new()
            }
            Executor::Identified(execution) if execution.keeps_nothing => {
                self.notes.push(Why(Note::NoCache));
                Vec::new()
            }
            Executor::Identified(execution) => {
                entries::decide(inventory, execution, live, &mut self.kept).into_iter().collect()
            }
        };
        (evict, unload)
    }

    fn note_connected(&mut self, inventory: &Inventory) {
        let mut blocks: BTreeSet<u32> = inventory.connected.storages.iter().copied().collect();
        blocks.retain(|number| (*number as usize) < inventory.storages.len());
        if !blocks.is_empty() {
            self.notes.push(Why(Note::Protected {
                blocks: blocks.len() as u64,
                bytes: entries::size(inventory, &blocks),
            }));
        }
    }

    fn push(&mut self, action: Action, what: &str, because: Release) {
        self.steps.push(Step { action, what: what.to_owned(), because, estimated: None });
    }

    fn push_collect(&mut self, level: Level) {
        self.push(Action::Collect, "reference cycles", Release::PartOfLevel { level });
    }

    fn push_after_release(&mut self) {
        self.push(Action::Collect, "reference cycles", Release::AfterRelease);
    }

    fn push_caches(&mut self, level: Level) {
        self.push(Action::EmptyDeviceCache, "device cache", Release::PartOfLevel { level });
        self.push(Action::EmptyHostCache, "page-locked cache", Release::PartOfLevel { level });
    }

    fn push_heap(&mut self, level: Level) {
        self.push(Action::TrimHeap, "C heap", Release::PartOfLevel { level });
    }

    fn push_trim(&mut self, level: Level) {
        self.push_caches(level);
        self.push_heap(level);
    }

    fn push_file_cache(&mut self, inventory: &Inventory) {
        if !inventory.mapped_files.is_empty() {
            let files = inventory.mapped_files.clone();
            self.push(
                Action::DropFileCache { files },
                "page cache of model files",
                Release::MaybeUnmapped,
            );
        }
    }

    fn push_destroy(&mut self, destroy: Option<Step>) {
        if let Some(step) = destroy {
            self.steps.push(step);
            self.push_after_release();
        }
    }

    fn push_system_wide(&mut self) {
        if self.policy.system_wide {
            self.push(Action::SystemWide, "memory outside this process", Release::SystemWide);
        }
    }

    fn finish(self) -> Plan {
        let Self { policy, steps, kept, mut notes, rest } = self;
        let (kept, more) = listed::kept(kept);
        notes.extend(more);
        Plan { policy, steps, kept, notes, rest }
    }
}
