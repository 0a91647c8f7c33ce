//! What fell between two readings.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Place};
use crate::bytes::{Bytes, Change};
use crate::headline::Measure;
use crate::reading::{ComfyView, DeviceMemory, DriverView, Reading, TorchView};

/// Measured differences; positive means given back. `None` when either side is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Freed {
    /// Fall of the process's anonymous memory: what the program really gave back.
    pub process_anonymous: Option<Change>,
    /// Fall of its resident memory. Includes file pages, which the kernel could take anyway.
    pub process_resident: Option<Change>,
    /// Windows and macOS: fall of what the system charges to it (commit, `phys_footprint`), which
    /// is what the program gave back there. Its resident memory also falls when pages are only
    /// moved out of it, and does not show all that was freed.
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
    /// What this process gave back: what the driver says of it, else what torch and ComfyUI hold.
    /// Only where neither is known in both readings, the device's "used", which other programs
    /// change too.
    pub ours: Option<Change>,
    /// Which number that is. `None` where it is unknown, and in reports of 0.1.
    #[serde(default)]
    pub measure: Option<Measure>,
    /// Falls of the numbers that the driver reports.
    pub driver: DriverView<Change>,
    /// Falls of the numbers that torch reports.
    pub torch: TorchView<Change>,
    /// Falls of the numbers that ComfyUI reports.
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
            comfyui: ComfyView {
                paged: fallen(then.comfyui.paged, now.comfyui.paged),
                models: fallen(then.comfyui.models, now.comfyui.models),
            },
        };
        if let Some((measure, change)) = freed.best(held(then, now)) {
            (freed.measure, freed.ours) = (Some(measure), Some(change));
        }
        freed
    }

    /// A device that only one of the readings knows: its changes are unknown, which is not 0.
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
    pub(crate) fn largest(&self, action: &Action) -> Option<i64> {
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
            // One part that fell says nothing while it is unknown what became of the rest.
            .filter(|device| device.ours.is_some())
            .flat_map(|device| [device.ours, device.torch.allocated, device.torch.reserved]);
        process.chain(devices).flatten().map(|change| change.0).max()
    }
}

/// A card that this process does not use is left out: only other programs change its numbers.
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
