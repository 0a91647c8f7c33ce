//! What came of a sweep: estimated, claimed and measured bytes, kept apart.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Outcome, Place};
use crate::bytes::{Bytes, Change};
use crate::headline::{Gave, Headline, Measure};
use crate::level::Level;
use crate::plan::{Kept, Plan, Step};
use crate::policy::Goal;
use crate::reading::{ComfyView, DeviceMemory, DriverView, Reading, SCHEMA, TorchView};
use crate::reason::{Keep, Note, Release, Skip, Why};

/// Differences below this are noise of the measurement itself: a reading allocates a little, and
/// other threads run on.
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
    /// The answer in a few numbers, for everybody who shows one. Empty in reports of 0.1.
    #[serde(default)]
    pub headline: Headline,
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
    /// What people should know.
    pub notes: Vec<Why<Note>>,
}

/// Measured differences; positive means given back. `None` when either side is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Freed {
    /// Fall of the process's anonymous memory: what the program really gave back.
    pub process_anonymous: Option<Change>,
    /// Fall of its resident memory. Includes file pages, which the kernel could take anyway.
    pub process_resident: Option<Change>,
    /// Windows and macOS: fall of what the system charges it with (commit, `phys_footprint`), which
    /// is what the program gave back there. Its resident memory also falls when pages are only moved
    /// out of it, and does not show all that was freed.
    pub process_charged: Option<Change>,
    /// Per device.
    pub devices: Vec<DeviceFreed>,
}

/// Measured differences on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DeviceFreed {
    /// Device id.
    pub id: String,
    /// What this process gave back: the driver's word on it, else what torch and ComfyUI hold.
    /// Only where neither is known in both readings, the device's "used", which other programs
    /// move too.
    pub ours: Option<Change>,
    /// Which number that is. `None` where it is unknown, and in reports of 0.1.
    #[serde(default)]
    pub measure: Option<Measure>,
    /// Falls of what the driver says.
    pub driver: DriverView<Change>,
    /// Falls of what torch says.
    pub torch: TorchView<Change>,
    /// Falls of what ComfyUI says.
    pub comfyui: ComfyView<Change>,
}

impl DeviceFreed {
    fn between(then: &DeviceMemory, now: &DeviceMemory) -> Self {
        let mut freed = Self {
            id: now.id.clone(),
            ours: None,
            measure: None,
            driver: DriverView {
                used: fallen(then.driver.used, now.driver.used),
                process: fallen(then.driver.process, now.driver.process),
                others: fallen(then.driver.others, now.driver.others),
            },
            torch: TorchView {
                allocated: fallen(then.torch.allocated, now.torch.allocated),
                reserved: fallen(then.torch.reserved, now.torch.reserved),
            },
            comfyui: ComfyView { paged: fallen(then.comfyui.paged, now.comfyui.paged) },
        };
        if let Some((measure, change)) = freed.best(held(then, now)) {
            (freed.measure, freed.ours) = (Some(measure), Some(change));
        }
        freed
    }

    /// A device that only one of the readings knows: nothing about it is known, which is not 0.
    fn unknown(device: &DeviceMemory) -> Self {
        Self { id: device.id.clone(), ..Self::default() }
    }
}

/// Fall of what torch and ComfyUI hold on a device. Unknown when a part of it was known to one
/// reading only: the rest of the sum would then pass for the whole.
fn held(then: &DeviceMemory, now: &DeviceMemory) -> Option<(Measure, Change)> {
    let reserved = (then.torch.reserved, now.torch.reserved);
    let paged = (then.comfyui.paged, now.comfyui.paged);
    let tensors = (then.torch.allocated, now.torch.allocated);
    let known = |part: &(Option<Bytes>, Option<Bytes>)| *part != (None, None);
    let measure = if known(&reserved) || known(&paged) { Measure::Held } else { Measure::Tensors };
    let torch = if known(&reserved) { reserved } else { tensors };
    let mut sum = None;
    for (then, now) in [torch, paged].into_iter().filter(known) {
        let fall = fallen(then, now)?.0;
        sum = Some(sum.map_or(fall, |sum: i64| sum.saturating_add(fall)));
    }
    Some((measure, Change(sum?)))
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

impl Freed {
    /// The difference of two readings.
    #[must_use]
    pub fn between(before: &Reading, after: &Reading) -> Self {
        Self {
            process_anonymous: fallen(before.process.anonymous, after.process.anonymous),
            process_resident: fallen(before.process.resident, after.process.resident),
            process_charged: fallen(before.process.charged(), after.process.charged()),
            devices: devices_freed(&before.devices, &after.devices),
        }
    }

    /// The largest fall in a place that this action acts on, if anything is known there.
    fn largest(&self, action: &Action) -> Option<i64> {
        let places = action.acts_on();
        let process = match self.process_charged {
            Some(charged) => [Some(charged), None],
            None => [self.process_anonymous, self.process_resident],
        };
        let process = process.into_iter().filter(|_| places.contains(&Place::Process));
        let devices = self
            .devices
            .iter()
            .filter(|_| places.contains(&Place::Device))
            // A part that fell says nothing where it is unknown what became of the rest.
            .filter(|device| device.ours.is_some())
            .flat_map(|device| [device.ours, device.torch.allocated, device.torch.reserved]);
        process.chain(devices).flatten().map(|change| change.0).max()
    }
}

/// A card that this process does not use is left out: it moves only for others.
fn devices_freed(before: &[DeviceMemory], after: &[DeviceMemory]) -> Vec<DeviceFreed> {
    let mut left: Vec<&DeviceMemory> = before.iter().collect();
    let mut freed = Vec::new();
    for now in after {
        // A card may change its name from the driver's to torch's, or back when torch fails to
        // answer; one slice of a card never becomes another.
        let same_card =
            |then: &&DeviceMemory| then.is_same_card(now) && !has(after, then) && !has(before, now);
        let then = left
            .iter()
            .position(|then| then.id == now.id)
            .or_else(|| left.iter().position(same_card))
            .map(|index| left.remove(index));
        match then {
            Some(then) if then.is_ours() || now.is_ours() => {
                freed.push(DeviceFreed::between(then, now));
            }
            _ => {}
        }
    }
    let gone = left.into_iter().filter(|then| then.is_ours()).map(DeviceFreed::unknown);
    freed.extend(gone);
    freed
}

fn has(devices: &[DeviceMemory], wanted: &DeviceMemory) -> bool {
    devices.iter().any(|device| device.id == wanted.id)
}

fn fallen(before: Option<Bytes>, after: Option<Bytes>) -> Option<Change> {
    Some(before?.fallen_to(after?))
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
    /// Puts the parts together.
    #[must_use]
    pub fn new(plan: &Plan, before: Reading, after: Reading, rows: Vec<Row>) -> Self {
        let goal = plan.policy.goal.clone();
        let freed = Freed::between(&before, &after);
        Self {
            schema: SCHEMA,
            level: plan.policy.level,
            requested_level: plan.policy.requested,
            dry_run: plan.policy.dry_run,
            goal_met: goal.as_ref().and_then(|goal| goal.is_met(&after)),
            goal,
            cancelled: rows.iter().any(|row| row.outcome == Outcome::Cancelled),
            headline: Headline::new(&before, &after, &freed, &rows),
            freed,
            before,
            after,
            rows,
            kept: plan.kept.iter().map(KeptRow::from).collect(),
            notes: plan.notes.clone(),
        }
    }
}

impl From<&Kept> for KeptRow {
    fn from(kept: &Kept) -> Self {
        Self { what: kept.what.clone(), bytes: kept.bytes, why: Why(kept.because.clone()) }
    }
}
