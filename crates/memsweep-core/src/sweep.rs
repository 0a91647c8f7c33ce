//! The loop: measure, release, measure, stop.

use crate::action::{Action, Outcome};
use crate::plan::Plan;
use crate::reading::Reading;
use crate::reason::Skip;
use crate::report::{Report, Row};
use crate::rest::{Child, Rest};
use crate::turns::{Turns, has_grown};

/// What the loop asks of the world. `read` is total: what cannot be read is `None`.
pub trait Host {
    /// The numbers now.
    fn read(&mut self) -> Reading;
    /// Carries out one action, completely or not at all.
    fn release(&mut self, action: &Action) -> Outcome;
    /// Processes that this one has started; none where that cannot be told. Asked once.
    fn children(&mut self) -> Vec<Child> {
        Vec::new()
    }
}

/// A host that reads and releases nothing: the dry run of the same loop.
#[derive(Debug)]
pub struct DryRun<'a, H>(pub &'a mut H);

impl<H: Host> Host for DryRun<'_, H> {
    fn read(&mut self) -> Reading {
        self.0.read()
    }

    fn release(&mut self, _: &Action) -> Outcome {
        Outcome::skipped(Skip::DryRun)
    }

    fn children(&mut self) -> Vec<Child> {
        self.0.children()
    }
}

/// Carries out a plan. Measures before, between and after; stops when the goal is met or the user
/// cancelled. A plan made for a dry run releases nothing, whoever carries it out.
pub fn sweep(plan: &Plan, host: &mut impl Host) -> Report {
    Turns::default().sweep(plan, host)
}

/// The same in a loop. `in_vain_at` is the reading when the collector had given nothing back: it rests
/// until more memory is in use. Answers with the reading right after it ran, too: what the heap keeps at
/// that step is not what it keeps at the end.
pub(crate) fn sweep_with(
    plan: &Plan,
    host: &mut impl Host,
    in_vain_at: Option<&Reading>,
) -> (Report, Option<Reading>) {
    if plan.policy.dry_run {
        carry_out(plan, &mut DryRun(host), in_vain_at)
    } else {
        carry_out(plan, host, in_vain_at)
    }
}

fn carry_out(
    plan: &Plan,
    host: &mut impl Host,
    in_vain_at: Option<&Reading>,
) -> (Report, Option<Reading>) {
    let before = host.read();
    let mut now = before.clone();
    let mut rows = Vec::new();
    let mut cycles = Cycles { collected: false, in_vain_at };
    let mut after_collector = None;
    let mut steps = plan.steps.iter();
    for step in &mut steps {
        if plan.policy.goal.as_ref().and_then(|goal| goal.is_met(&now)) == Some(true) {
            rows.push(Row::not_run(step, Skip::GoalMet));
            break;
        }
        if let Some(reason) = cycles.skip(&step.action, &now) {
            rows.push(Row::not_run(step, reason));
            continue;
        }
        let outcome = host.release(&step.action);
        let later = host.read();
        cycles.note(&step.action, &outcome);
        if step.action == Action::Collect && outcome.is_done() {
            after_collector = Some(later.clone());
        }
        let cancelled = outcome == Outcome::Cancelled;
        rows.push(Row::new(step, outcome, &now, &later));
        now = later;
        if cancelled {
            break;
        }
    }
    rows.extend(steps.map(|step| Row::not_run(step, Skip::SweepEnded)));
    let rest = Rest::of(&now, host.children(), &plan.rest);
    (Report { rest, ..Report::new(plan, before, now, rows) }, after_collector)
}

/// Whether another run of the collector could find anything: it is the most expensive step (0.3 s
/// on a warm ComfyUI), so it runs again only after something was released.
struct Cycles<'a> {
    collected: bool,
    in_vain_at: Option<&'a Reading>,
}

impl Cycles<'_> {
    fn skip(&self, action: &Action, now: &Reading) -> Option<Skip> {
        if *action != Action::Collect {
            return None;
        }
        let rests = self.in_vain_at.is_some_and(|then| !has_grown(then, now));
        match (self.collected, rests) {
            (true, _) => Some(Skip::NothingReleased),
            (false, true) => Some(Skip::NothingLastTurn),
            (false, false) => None,
        }
    }

    fn note(&mut self, action: &Action, outcome: &Outcome) {
        if !outcome.is_done() {
            return;
        }
        match action {
            Action::Collect => self.collected = true,
            Action::Evict { .. } | Action::Unload { .. } | Action::Destroy { .. } => {
                self.collected = false;
            }
            _ => {}
        }
    }
}
