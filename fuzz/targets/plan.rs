//! The border to Python: settings, inventory, readings and outcomes as one JSON list. Whatever
//! can be read is planned, swept and drawn.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memsweep_core::action::{Action, Outcome};
use memsweep_core::inventory::{Executor, Inventory};
use memsweep_core::plan::{Plan, plan};
use memsweep_core::policy::{Policy, Settings};
use memsweep_core::reading::Reading;
use memsweep_core::render;
use memsweep_core::report::Report;
use memsweep_core::sweep::{Host, sweep};

fuzz_target!(|content: &[u8]| {
    type Input = (Settings, Inventory, Vec<Reading>, Vec<Outcome>);
    let Ok((settings, inventory, readings, outcomes)) = serde_json::from_slice::<Input>(content)
    else {
        return;
    };
    let Ok(policy) = Policy::try_from(settings) else { return };
    let made = plan(&inventory, &policy);
    assert_eq!(plan(&inventory, &policy), made);
    only_known_numbers(&inventory, &made);

    let mut host = Scripted { readings, outcomes, read: 0, released: 0 };
    let report = sweep(&made, &mut host);
    assert!(!policy.dry_run || host.released == 0);
    assert!(host.released <= made.steps.len());
    assert_eq!(report.rows.len(), made.steps.len());
    let _ = (render::summary(&report), render::text(&report));
    let _ = (render::reading_text(&report.before), render::reading_text(&report.after));
    let json = serde_json::to_string(&report).unwrap_or_default();
    assert!(serde_json::from_str::<Report>(&json).is_ok(), "{json}");
});

/// A plan releases nothing that the inventory does not list, and no model that is connected.
fn only_known_numbers(inventory: &Inventory, made: &Plan) {
    for step in &made.steps {
        match &step.action {
            Action::Unload { model, .. } => {
                assert!((*model as usize) < inventory.models.len());
                assert!(!inventory.connected.models.contains(model));
            }
            Action::Evict { entries } => {
                let known = match &inventory.executor {
                    Executor::Identified(execution) => execution.entries.len(),
                    _ => 0,
                };
                assert!(entries.iter().all(|entry| (*entry as usize) < known));
            }
            _ => {}
        }
    }
}

/// Answers from the input, and repeats the last reading when they run out.
struct Scripted {
    readings: Vec<Reading>,
    outcomes: Vec<Outcome>,
    read: usize,
    released: usize,
}

impl Host for Scripted {
    fn read(&mut self) -> Reading {
        let last = self.readings.len().saturating_sub(1);
        let reading = self.readings.get(self.read.min(last)).cloned();
        self.read += 1;
        reading.unwrap_or_default()
    }

    fn release(&mut self, _: &Action) -> Outcome {
        let outcome = self.outcomes.get(self.released).cloned();
        self.released += 1;
        outcome.unwrap_or(Outcome::done())
    }
}
