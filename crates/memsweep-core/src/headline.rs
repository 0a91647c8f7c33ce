//! What was given back, in one number for each place: worked out here and nowhere else.
//!
//! Log, node, front-end, command and Python all show this. Which number stands in for an unknown
//! one is an order of precedence, and two such orders would contradict each other sooner or later.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Outcome, Place};
use crate::bytes::{Bytes, Change};
use crate::reading::Reading;
use crate::report::{DeviceFreed, Freed, Row, Verdict};

/// The place of this process's RAM.
pub const PROCESS: &str = "process";

/// Which number stands for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The process: what its system charges to it (commit, `phys_footprint`).
    Charged,
    /// The process: its anonymous memory.
    Private,
    /// The process: its resident memory, file pages included. Only where nothing better is known.
    Resident,
    /// A device: what the driver says this process uses there.
    DriverProcess,
    /// A device: what torch's allocator and ComfyUI's pager hold.
    Held,
    /// A device: bytes in live tensors. They went into torch's cache, not yet to the device.
    Tensors,
    /// A device: what all programs use. Only where no number of this process is known.
    AllPrograms,
}

/// What one place gave back; positive means given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gave {
    /// [`PROCESS`], or the id of a device.
    pub place: String,
    /// The number that says so.
    pub measure: Measure,
    /// Its fall.
    pub bytes: Change,
}

/// The answer of a sweep in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Headline {
    /// The process first, then every device that this process uses. A place whose number is unknown
    /// is left out.
    pub freed: Vec<Gave>,
    /// What the process's number was before.
    pub process_before: Option<Bytes>,
    /// And after.
    pub process_after: Option<Bytes>,
    /// What moved to disk: it left RAM, and its owner still has it.
    pub parked: Bytes,
    /// Steps that failed.
    pub failed_steps: u64,
    /// From the first reading to the last.
    pub seconds: Option<f64>,
}

impl Headline {
    /// From the readings around a sweep, what fell between them, and its steps.
    #[must_use]
    pub fn new(before: &Reading, after: &Reading, freed: &Freed, rows: &[Row]) -> Self {
        let process = freed.process();
        let number = |reading: &Reading| {
            let process_memory = &reading.process;
            match process.as_ref()?.measure {
                Measure::Charged => process_memory.charged(),
                Measure::Private => process_memory.anonymous,
                _ => process_memory.resident,
            }
        };
        let (process_before, process_after) = (number(before), number(after));
        let parked = rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Parked(parked) => Some(parked.bytes),
            _ => None,
        });
        let failed = rows.iter().filter(|row| row.verdict == Verdict::Failed).count();
        Self {
            parked: parked.sum(),
            freed: process.into_iter().chain(freed.devices.iter().filter_map(ours)).collect(),
            process_before,
            process_after,
            failed_steps: failed as u64,
            seconds: before.seconds.zip(after.seconds).map(|(start, end)| (end - start).max(0.0)),
        }
    }

    /// What the process gave back; `None` when it is unknown.
    #[must_use]
    pub fn process(&self) -> Option<Change> {
        self.freed.iter().find(|gave| gave.place == PROCESS).map(|gave| gave.bytes)
    }
}

impl Freed {
    /// What the process gave back, by the best number that its system offers.
    #[must_use]
    pub fn process(&self) -> Option<Gave> {
        first([
            (Measure::Charged, self.process_charged),
            (Measure::Private, self.process_anonymous),
            (Measure::Resident, self.process_resident),
        ])
        .map(|(measure, bytes)| Gave { place: PROCESS.to_owned(), measure, bytes })
    }

    /// What one step gave back: every place it acts on that moved. When none did, one that is known
    /// stands for all, so that "nothing" and "unknown" stay distinct.
    #[must_use]
    pub fn of_step(&self, action: &Action) -> Vec<Gave> {
        let acts_on = |place| action.acts_on().contains(&place);
        let process = self.process().filter(|_| acts_on(Place::Process));
        let devices = self.devices.iter().filter(|_| acts_on(Place::Device)).filter_map(outermost);
        let known: Vec<Gave> = process.into_iter().chain(devices).collect();
        let moved: Vec<Gave> = known.iter().filter(|gave| gave.bytes.0 != 0).cloned().collect();
        if moved.is_empty() { known.into_iter().take(1).collect() } else { moved }
    }
}

impl DeviceFreed {
    /// What this process gave back on the device, and the number that says so. `held` is the fall of
    /// what torch and ComfyUI hold there.
    pub(crate) fn best(&self, held: Option<(Measure, Change)>) -> Option<(Measure, Change)> {
        let named = |measure, change: Option<Change>| Some((measure, change?));
        named(Measure::DriverProcess, self.driver.process)
            .or(held)
            .or_else(|| named(Measure::AllPrograms, self.driver.used))
    }
}

fn ours(device: &DeviceFreed) -> Option<Gave> {
    let (measure, bytes) = device.measure.zip(device.ours)?;
    Some(Gave { place: device.id.clone(), measure, bytes })
}

/// The outermost of our numbers that moved: the memory of freed tensors stays in torch's cache
/// until that is emptied.
fn outermost(device: &DeviceFreed) -> Option<Gave> {
    let gave = ours(device)?;
    let inner =
        [(Measure::Held, device.torch.reserved), (Measure::Tensors, device.torch.allocated)];
    let moved = inner.into_iter().find_map(|(measure, change)| {
        let bytes = change.filter(|change| change.0 != 0)?;
        Some(Gave { place: device.id.clone(), measure, bytes })
    });
    if gave.bytes.0 == 0 { moved.or(Some(gave)) } else { Some(gave) }
}

fn first<const N: usize>(numbers: [(Measure, Option<Change>); N]) -> Option<(Measure, Change)> {
    numbers.into_iter().find_map(|(measure, change)| Some((measure, change?)))
}
