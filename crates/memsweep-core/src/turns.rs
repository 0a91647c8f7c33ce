//! The sweeps of one node that a loop runs again and again: one report, and less work.

use crate::action::Action;
use crate::bytes::{Bytes, Change};
use crate::headline::{Gave, Headline, PROCESS};
use crate::plan::Plan;
use crate::reading::{ComfyView, DriverView, Reading, TorchView};
use crate::report::{DeviceFreed, Freed, Report, Verdict};
use crate::sweep::{Host, sweep_with};

/// The collector rests until this much more memory is in use somewhere: what sits in cycles has to be
/// found some time.
const GROWTH: Bytes = Bytes(64 * 1024 * 1024);

/// Whether more memory is in use than then, in RAM or on a device, or that is not known.
pub(crate) fn has_grown(then: &Reading, now: &Reading) -> bool {
    let (was, is) = (&then.process, &now.process);
    let of_process = [
        (was.anonymous, is.anonymous),
        (was.resident, is.resident),
        (was.charged(), is.charged()),
        (was.commit, is.commit),
    ];
    of_process[..2].iter().all(|(was, is)| was.is_none() || is.is_none())
        || of_process.into_iter().any(grown)
        || now.devices.iter().any(|device| {
            let Some(was) = then.devices.iter().find(|one| one.id == device.id) else {
                return true;
            };
            [
                (was.torch.allocated, device.torch.allocated),
                (was.torch.reserved, device.torch.reserved),
                (was.driver.process, device.driver.process),
                (was.comfyui.paged, device.comfyui.paged),
            ]
            .into_iter()
            .any(grown)
        })
}

/// A number that is known to neither reading says nothing.
fn grown((was, is): (Option<Bytes>, Option<Bytes>)) -> bool {
    match (was, is) {
        (None, None) => false,
        (Some(was), Some(is)) => is.0 > was.0.saturating_add(GROWTH.0),
        _ => true,
    }
}

/// What came of the turns so far.
#[derive(Debug, Default)]
pub struct Turns {
    report: Option<Report>,
    /// The reading after the collector had run and given nothing back.
    in_vain_at: Option<Reading>,
}

impl Turns {
    /// The first turn of another copy of that node: a loop can also be many copies, made at once. What the
    /// earlier ones know of the collector holds for it too.
    #[must_use]
    pub fn beside(earlier: &Self) -> Self {
        Self { report: None, in_vain_at: earlier.in_vain_at.clone() }
    }

    /// Carries out a plan as one more turn.
    pub fn sweep(&mut self, plan: &Plan, host: &mut impl Host) -> Report {
        let (mut report, after_collector) = sweep_with(plan, host, self.in_vain_at.as_ref());
        if let Some(reading) = after_collector {
            self.in_vain_at = (!has_paid(&report)).then_some(reading);
        }
        if let Some(earlier) = &self.report {
            report.add(earlier);
        }
        self.report = Some(report.clone());
        report
    }
}

/// Whether the collector gave something back, or that is not known.
fn has_paid(report: &Report) -> bool {
    let mut ran =
        report.rows.iter().filter(|row| row.action == Action::Collect && row.outcome.is_done());
    ran.any(|row| row.verdict != Verdict::NothingSeen)
}

impl Report {
    /// Adds what earlier turns gave back. Steps, what stayed and notes are those of the last turn.
    fn add(&mut self, earlier: &Self) {
        self.turns += earlier.turns;
        self.before = earlier.before.clone();
        self.freed = sum(&earlier.freed, &self.freed);
        self.headline.add(&earlier.headline);
    }
}

impl Headline {
    fn add(&mut self, earlier: &Self) {
        self.freed = self.freed.drain(..).filter_map(|gave| gave.plus(&earlier.freed)).collect();
        self.process_before = earlier.process_before;
        self.parked = self.parked.plus(earlier.parked);
        self.failed_steps += earlier.failed_steps;
        self.seconds = self.seconds.zip(earlier.seconds).map(|(one, other)| one + other);
    }
}

impl Gave {
    /// With what earlier turns gave back there; `None` where that is unknown. A device that was not in
    /// use yet had nothing to give.
    fn plus(mut self, earlier: &[Self]) -> Option<Self> {
        match earlier.iter().find(|one| one.place == self.place) {
            Some(one) if one.measure == self.measure => {
                self.bytes = Change(self.bytes.0.saturating_add(one.bytes.0));
                Some(self)
            }
            None if self.place != PROCESS => Some(self),
            _ => None,
        }
    }
}

/// Falls of two turns; unknown where either is.
fn sum(earlier: &Freed, later: &Freed) -> Freed {
    Freed {
        process_anonymous: plus(earlier.process_anonymous, later.process_anonymous),
        process_resident: plus(earlier.process_resident, later.process_resident),
        process_charged: plus(earlier.process_charged, later.process_charged),
        devices: later
            .devices
            .iter()
            .map(|device| match earlier.devices.iter().find(|one| one.id == device.id) {
                Some(one) => device_sum(one, device),
                None => device.clone(),
            })
            .collect(),
    }
}

fn device_sum(earlier: &DeviceFreed, later: &DeviceFreed) -> DeviceFreed {
    let same = earlier.measure == later.measure;
    DeviceFreed {
        id: later.id.clone(),
        ours: if same { plus(earlier.ours, later.ours) } else { None },
        measure: later.measure.filter(|_| same),
        driver: DriverView {
            used: plus(earlier.driver.used, later.driver.used),
            process: plus(earlier.driver.process, later.driver.process),
            others: plus(earlier.driver.others, later.driver.others),
        },
        torch: TorchView {
            allocated: plus(earlier.torch.allocated, later.torch.allocated),
            reserved: plus(earlier.torch.reserved, later.torch.reserved),
        },
        comfyui: ComfyView {
            paged: plus(earlier.comfyui.paged, later.comfyui.paged),
            models: plus(earlier.comfyui.models, later.comfyui.models),
        },
    }
}

fn plus(one: Option<Change>, other: Option<Change>) -> Option<Change> {
    one.zip(other).map(|(one, other)| Change(one.0.saturating_add(other.0)))
}
