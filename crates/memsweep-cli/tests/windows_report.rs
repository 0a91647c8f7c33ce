//! A whole sweep of the system's own steps on Windows. Under wine the calls succeed and most of
//! them do nothing, which is what the report must say. Alone in its process: it measures it.
#![cfg(windows)]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use memsweep_core::action::{Action, Outcome};
use memsweep_core::inventory::Inventory;
use memsweep_core::plan::plan;
use memsweep_core::policy::{Policy, Settings};
use memsweep_core::reading::Reading;
use memsweep_core::reason::Missing;
use memsweep_core::render;
use memsweep_core::report::Verdict;
use memsweep_core::sweep::{Host, sweep};
use memsweep_os::Os;

struct Rim(Os);

impl Host for Rim {
    fn read(&mut self) -> Reading {
        self.0.read()
    }

    fn release(&mut self, action: &Action) -> Outcome {
        self.0.release(action).unwrap_or(Outcome::unsupported(Missing::NoModels))
    }
}

#[test]
fn the_report_says_what_was_measured_and_not_that_a_call_succeeded() {
    let settings =
        Settings { level: Some("trim".to_owned()), system_wide: true, ..Settings::default() };
    let plan = plan(&Inventory::default(), &Policy::try_from(settings).unwrap());
    let report = sweep(&plan, &mut Rim(Os::current()));
    let text = render::text(&report);
    println!("{text}");
    assert!(text.contains("paged out, not freed"), "{text}");
    assert!(report.rows.iter().all(|row| row.outcome.claimed().is_none()), "{text}");
    let row = report.rows.iter().find(|row| row.action == Action::TrimHeap).unwrap();
    assert!(row.outcome.is_done(), "{row:?}");
    // Nothing was allocated, so nothing can have been given back.
    assert_eq!(row.verdict, Verdict::NothingSeen, "{text}");
    let freed = report.headline.process().unwrap();
    assert!(freed.0 < 1024 * 1024, "{text}");
}
