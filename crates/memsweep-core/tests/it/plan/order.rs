//! The order in which the steps come.

use memsweep_core::action::Action;
use memsweep_core::bytes::Bytes;
use memsweep_core::inventory::Inventory;
use memsweep_core::level::Level;
use memsweep_core::plan::plan;
use memsweep_core::policy::{Goal, Policy};

use super::LOADER;
use crate::build;

/// The kinds of the steps, in order.
fn steps(inventory: &Inventory, level: Level, goal: Option<Goal>, system_wide: bool) -> String {
    let policy = Policy { goal, system_wide, ..build::policy(level) };
    let kinds = plan(inventory, &policy).steps.into_iter().map(|step| match step.action {
        Action::Evict { .. } => "evict",
        Action::Collect => "collect",
        Action::Synchronize => "sync",
        Action::Unload { .. } => "unload",
        Action::EmptyDeviceCache => "device",
        Action::EmptyHostCache => "host",
        Action::DropFileCache { .. } => "files",
        Action::TrimHeap => "heap",
        Action::Park { .. } => "park",
        Action::Destroy { .. } => "destroy",
        Action::SystemWide => "system",
    });
    kinds.collect::<Vec<_>>().join(" ")
}

#[test]
fn steps_come_in_the_order_that_lets_each_find_what_the_last_one_freed() {
    let full = build::inventory(&format!("{LOADER}\nfile /models/a.safetensors"));
    let empty = Inventory::default();
    for (inventory, level, expected) in [
        (&full, Level::Trim, "device host heap"),
        (&full, Level::Collect, "collect device host heap"),
        (&full, Level::Unload, "collect unload unload unload collect device host heap"),
        (&full, Level::Evict, "evict collect unload unload unload collect device host files heap"),
        (
            &full,
            Level::Park,
            "evict collect unload unload unload collect device host files park heap",
        ),
        (
            &full,
            Level::Destroy,
            "evict collect unload unload unload collect destroy collect device host files \
             park heap",
        ),
        (&empty, Level::Evict, "collect device host heap"),
    ] {
        assert_eq!(steps(inventory, level, None, false), expected, "{level}");
    }
    assert_eq!(steps(&empty, Level::Trim, None, true), "device host heap system");
}

#[test]
fn with_a_goal_the_cheap_steps_come_first() {
    let full = build::inventory(&format!("{LOADER}\nfile /models/a.safetensors"));
    let goal = Some(Goal::RamAvailable(Bytes(1)));
    assert_eq!(
        steps(&full, Level::Evict, goal, true),
        "device host heap \
         collect device host heap \
         unload unload unload collect device host heap \
         evict collect files device host heap \
         system"
    );
    let goal = Some(Goal::RamAvailable(Bytes(1)));
    assert!(
        steps(&full, Level::Park, goal, false)
            .ends_with(" files device host heap park device host heap")
    );
}
