//! What came of a sweep: estimated, claimed and measured bytes, kept apart.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Outcome, Place};
use crate::bytes::Bytes;
pub use crate::freed::{DeviceFreed, Freed};
use crate::headline::{Gave, Headline};
use crate::level::Level;
use crate::plan::{Kept, Plan, Step};
use crate::policy::Goal;
use crate::reading::{Reading, SCHEMA};
use crate::reason::{Keep, Note, Release, Skip, Why};
use crate::rest::Rest;
use crate::stayed::Stayed;

/// Differences below this are noise of the measurement itself: a reading allocates a little, and
/// other threads keep running.
const NOISE_BYTES: i64 = 64 * 1024;

/// The whole story of one sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this shape.
    pub schema: u32,
    /// The level carried out.
    pub level: Level,
    /// The level asked for.
    pub requested_level: Level,
    /// Nothing was released on purpose.
    pub dry_run: bool,
    /// The goal, if one was set.
    pub goal: Option<Goal>,
    /// Whether it holds now; `None` without a goal or when its number is unknown.
    pub goal_met: Option<bool>,
    /// The user cancelled during the sweep.
    pub cancelled: bool,
    /// How many sweeps this sums up: the turns of a node in a loop. What was given back is that of
    /// all turns, `before` is from the first, and all else is from the last.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub turns: u64,
    /// The answer in a few numbers, for everybody who shows one. Empty in reports of 0.1.
    #[serde(default)]
    pub headline: Headline,
    /// The largest thing that was not freed, and what would free it. `None` where nothing large
    /// stayed, and in reports of 0.1.
    #[serde(default)]
    pub stayed: Option<Stayed>,
    /// The reading before.
    pub before: Reading,
    /// The reading after.
    pub after: Reading,
    /// Measured difference of the two readings.
    pub freed: Freed,
    /// One row per step of the plan.
    pub rows: Vec<Row>,
    /// What stayed, and why.
    pub kept: Vec<KeptRow>,
    /// What holds memory that is still in use, as far as it is known. Absent in older reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest: Vec<Rest>,
    /// What people should know.
    pub notes: Vec<Why<Note>>,
}

/// One step and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Row {
    /// What was to be done.
    pub action: Action,
    /// For people: what it concerns.
    pub what: String,
    /// Why.
    #[serde(flatten)]
    pub why: Why<Release>,
    /// What the plan expected, by counting storages. Memory shared with objects we cannot see
    /// stays, so this is an upper bound.
    pub estimated: Option<Bytes>,
    /// What came of it; a success holds what the call itself claims.
    pub outcome: Outcome,
    /// What the readings around this step say. Memory freed here may reach the system only at a
    /// later step (heap, device cache), so look at the whole report too.
    pub measured: Freed,
    /// The same in one number for each place that moved. Empty when nothing was measured, and in
    /// reports of 0.1.
    #[serde(default)]
    pub gave: Vec<Gave>,
    /// The outcome held against the measurement.
    pub verdict: Verdict,
    /// Time from reading to reading.
    pub seconds: Option<f64>,
}

/// The outcome of a step held against the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Memory was seen to fall.
    Confirmed,
    /// The step succeeded and claimed nothing; no fall was seen.
    NothingSeen,
    /// The step claimed bytes that the measurement does not show.
    ClaimNotSeen,
    /// The readings lack the numbers to judge.
    Unmeasured,
    /// It concerns memory outside this process; the claim stands alone.
    OutsideProcess,
    /// Nothing was done.
    NotRun,
    /// It failed.
    Failed,
}

/// Something that stayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeptRow {
    /// What it is.
    pub what: String,
    /// Its size where known.
    pub bytes: Option<Bytes>,
    /// Why.
    #[serde(flatten)]
    pub why: Why<Keep>,
}

impl Row {
    /// A step that ran, between two readings.
    #[must_use]
    pub fn new(step: &Step, outcome: Outcome, before: &Reading, after: &Reading) -> Self {
        let measured = Freed::between(before, after);
        let verdict = verdict(&step.action, &outcome, measured.largest(&step.action));
        let seconds = match (before.seconds, after.seconds) {
            (Some(start), Some(end)) => Some((end - start).max(0.0)),
            _ => None,
        };
        let ran = outcome.is_done() || verdict == Verdict::Failed;
        let gave = if ran { measured.of_step(&step.action) } else { Vec::new() };
        Self { outcome, measured, gave, verdict, seconds, ..Self::not_run(step, Skip::SweepEnded) }
    }

    /// A step that did not run.
    #[must_use]
    pub fn not_run(step: &Step, reason: Skip) -> Self {
        Self {
            action: step.action.clone(),
            what: step.what.clone(),
            why: Why(step.because.clone()),
            estimated: step.estimated,
            outcome: Outcome::skipped(reason),
            measured: Freed::default(),
            gave: Vec::new(),
            verdict: Verdict::NotRun,
            seconds: None,
        }
    }
}

fn verdict(action: &Action, outcome: &Outcome, fall: Option<i64>) -> Verdict {
    let claimed = match outcome {
        Outcome::Failed { .. } => return Verdict::Failed,
        _ if outcome.is_done() => outcome.claimed().map_or(0, |bytes| bytes.0),
        _ => return Verdict::NotRun,
    };
    let fall = match action.acts_on() {
        [Place::Machine] => return Verdict::OutsideProcess,
        // Nothing has to be measured to know that waiting gives nothing back.
        [] => 0,
        _ => match fall {
            Some(fall) => fall,
            None => return Verdict::Unmeasured,
        },
    };
    // Half of the claim is enough: other threads allocate while a step runs.
    let claim_seen = u64::try_from(fall).is_ok_and(|fall| fall >= claimed / 2);
    match (fall > NOISE_BYTES, claimed > NOISE_BYTES as u64) {
        (_, true) if !claim_seen => Verdict::ClaimNotSeen,
        (true, _) => Verdict::Confirmed,
        (false, _) => Verdict::NothingSeen,
    }
}

impl Report {
    /// Puts the parts together, all but what holds the rest.
    #[must_use]
    pub fn new(plan: &Plan, before: Reading, after: Reading, rows: Vec<Row>) -> Self {
        let goal = plan.policy.goal.clone();
        let freed = Freed::between(&before, &after);
        let kept: Vec<KeptRow> = plan.kept.iter().map(KeptRow::from).collect();
        Self {
            schema: SCHEMA,
            level: plan.policy.level,
            requested_level: plan.policy.requested,
            dry_run: plan.policy.dry_run,
            goal_met: goal.as_ref().and_then(|goal| goal.is_met(&after)),
            goal,
            turns: 1,
            cancelled: rows.iter().any(|row| row.outcome == Outcome::Cancelled),
            headline: Headline::new(&before, &after, &freed, &rows),
            stayed: Stayed::among(&kept),
            freed,
            rest: Vec::new(),
            before,
            after,
            rows,
            kept,
            notes: plan.notes.clone(),
        }
    }
}

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_one(turns: &u64) -> bool {
    *turns == 1
}

impl From<&Kept> for KeptRow {
    fn from(kept: &Kept) -> Self {
        Self { what: kept.what.clone(), bytes: kept.bytes, why: Why(kept.because.clone()) }
    }
}
