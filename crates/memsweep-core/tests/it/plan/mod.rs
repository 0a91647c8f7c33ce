//! What goes and what stays, one situation per row.

mod entries;
mod loops;
mod models;
mod names;
mod order;
mod rest;

use std::fmt::Write as _;

use memsweep_core::action::Action;
use memsweep_core::level::Level;
use memsweep_core::plan::{Plan, plan};
use memsweep_core::reason::Release;

use crate::build;

/// The decisions of a plan, a line each: what goes, then what stays, then the notes.
fn decisions(plan: &Plan) -> String {
    let mut out = String::new();
    for step in &plan.steps {
        let estimated = step.estimated.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        match (&step.action, &step.because) {
            (Action::Evict { .. }, Release::NoReaderLeft { entries }) => {
                let _ = writeln!(out, "evict {}, {estimated}", entries.join(" "));
            }
            (Action::Unload { name, .. }, _) => {
                let _ = writeln!(out, "unload {name}, {estimated}");
            }
            _ => {}
        }
    }
    for kept in &plan.kept {
        let _ = writeln!(out, "keep {}: {}", kept.what, kept.because);
    }
    for note in &plan.notes {
        let _ = writeln!(out, "note {note}");
    }
    out
}

fn check(inventory: &str, level: Level) -> String {
    decisions(&plan(&build::inventory(inventory), &build::policy(level)))
}

/// The same at the level that decides most.
fn evict(inventory: &str) -> String {
    check(inventory, Level::Evict)
}

fn assert_lines(found: &str, expected: &[&str]) {
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, expected);
}

const LOADER: &str = "
    storages 100 20 5
    model UNET cuda:0 100
    model CLIP cuda:0 20
    model VAE cuda:0 5
    entry loader (s0 m0) (s1 m1) (s2 m2)
    node 4 CheckpointLoaderSimple entry=0
    node me pending";
