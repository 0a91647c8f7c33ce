//! Memory of one accelerator, as the driver, torch and ComfyUI each see it.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::reading::Reading;

/// Memory of one accelerator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DeviceMemory {
    /// Torch's name where torch knows the device (`cuda:0`), else the driver's (`amdgpu:card0`).
    pub id: String,
    /// Product name.
    pub name: Option<String>,
    /// PCI bus address (`0000:01:00.0`, lower case), which joins the driver's and torch's views.
    pub pci: Option<String>,
    /// The device's UUID, where it has one, without the driver's prefix. Joins the two views where
    /// torch reports no address; absent in the JSON where it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Memory of the device.
    pub total: Option<Bytes>,
    /// What the driver says.
    pub driver: DriverView<Bytes>,
    /// What torch says.
    pub torch: TorchView<Bytes>,
    /// What ComfyUI says.
    pub comfyui: ComfyView<Bytes>,
    /// Where the driver's view came from.
    pub source: Option<Source>,
}

/// The driver's view of a device. `T` is a number of bytes, or its change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DriverView<T> {
    /// Used by all programs.
    pub used: Option<T>,
    /// Used by this process.
    pub process: Option<T>,
    /// Used by other processes.
    pub others: Option<T>,
}

/// Torch's view of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TorchView<T> {
    /// In live tensors (`torch.cuda.memory_allocated`).
    pub allocated: Option<T>,
    /// Held by torch's allocator, tensors included (`memory_reserved`).
    pub reserved: Option<T>,
}

/// ComfyUI's view of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ComfyView<T> {
    /// Resident pages of models that ComfyUI pages by itself; torch does not count them.
    pub paged: Option<T>,
    /// In torch's memory, of the models that ComfyUI has loaded there.
    pub models: Option<T>,
}

/// A source of the driver's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// NVIDIA's management library.
    Nvml,
    /// The kernel's files.
    Sysfs,
    /// Torch, which asks the driver.
    Torch,
    /// Something else, as the host says.
    #[serde(other)]
    Other,
}

impl DeviceMemory {
    /// Whether this process uses the device, as far as torch or the driver can tell: a row with the
    /// driver's own id is a device that torch has not started.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let driver_only = ["nvml:", "amdgpu:"].iter().any(|driver| self.id.starts_with(driver));
        !driver_only || self.driver.process.is_some()
    }

    /// Whether the two rows describe the same card, judging by their addresses or UUIDs.
    #[must_use]
    pub fn is_same_card(&self, other: &Self) -> bool {
        match (&self.pci, &other.pci) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => self.uuid.is_some() && self.uuid == other.uuid,
        }
    }

    /// With neither in common, whether the names allow `card` to be this device, or the card that
    /// this device is a slice of: torch appends the slice to the card's name.
    fn may_be(&self, card: &Self) -> bool {
        let (Some(own), Some(cards)) = (&self.name, &card.name) else { return false };
        let addresses_differ = self.pci.is_some() && card.pci.is_some();
        let numbers_differ = self.uuid.is_some() && card.uuid.is_some();
        let is_slice = own != cards;
        own.starts_with(cards.as_str()) && !addresses_differ && (is_slice || !numbers_differ)
    }

    /// Free memory as the driver counts it.
    #[must_use]
    pub fn free(&self) -> Option<Bytes> {
        Some(Bytes(self.total?.0.saturating_sub(self.driver.used?.0)))
    }
}

impl Reading {
    /// Joins the devices torch knows with those the driver reports: by PCI address, else by UUID,
    /// else by name where only one card fits. The driver's totals win, because they count every
    /// program; torch's name for the device stays.
    pub fn join_devices(&mut self, torch: Vec<DeviceMemory>) {
        let mut driver = std::mem::take(&mut self.devices);
        for mut device in torch {
            let same = driver.iter().position(|other| device.is_same_card(other));
            let same = same.or_else(|| only(&driver, |card| device.may_be(card)));
            if let Some(other) = same.map(|index| driver.remove(index)) {
                device.name = device.name.or(other.name);
                // A slice of a card (MIG) has the card's address and less memory: the card's
                // numbers are not ours to use.
                if device.total.zip(other.total).is_some_and(|(own, card)| differ(own, card)) {
                    self.devices.push(device);
                    continue;
                }
                device.total = other.total.or(device.total);
                device.driver.process = other.driver.process.or(device.driver.process);
                device.driver.others = other.driver.others.or(device.driver.others);
                if other.driver.used.is_some() {
                    device.driver.used = other.driver.used;
                    device.source = other.source;
                }
            }
            self.devices.push(device);
        }
        self.devices.append(&mut driver);
    }
}

/// The index of the only row that fits; `None` where several do.
fn only(rows: &[DeviceMemory], fits: impl Fn(&DeviceMemory) -> bool) -> Option<usize> {
    let mut found = rows.iter().enumerate().filter(|(_, row)| fits(row));
    let (index, _) = found.next()?;
    found.next().is_none().then_some(index)
}

/// More than an eighth apart: drivers and torch disagree about what is reserved, but not by that
/// much.
fn differ(one: Bytes, other: Bytes) -> bool {
    one.0.abs_diff(other.0) > one.0.max(other.0) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used_by_all(bytes: u64) -> DriverView<Bytes> {
        DriverView { used: Some(Bytes(bytes)), ..DriverView::default() }
    }

    #[test]
    fn a_slice_of_a_card_keeps_its_own_numbers() {
        let row = |id: &str, total, used| DeviceMemory {
            id: id.into(),
            pci: Some("0000:01:00.0".into()),
            total: Some(Bytes(total)),
            driver: used_by_all(used),
            ..DeviceMemory::default()
        };
        let mut reading = Reading { devices: vec![row("nvml:0", 80, 70)], ..Reading::default() };
        reading.join_devices(vec![row("cuda:0", 10, 1)]);
        assert_eq!(reading.devices, vec![row("cuda:0", 10, 1)]);
    }

    #[test]
    fn torch_and_driver_views_of_one_device_become_one_row() {
        let driver = DeviceMemory {
            id: "nvml:1".into(),
            pci: Some("0000:01:00.0".into()),
            driver: used_by_all(7),
            source: Some(Source::Nvml),
            ..DeviceMemory::default()
        };
        let other = DeviceMemory { id: "nvml:0".into(), ..DeviceMemory::default() };
        let torch = DeviceMemory {
            id: "cuda:0".into(),
            pci: Some("0000:01:00.0".into()),
            driver: used_by_all(5),
            torch: TorchView { allocated: Some(Bytes(3)), reserved: None },
            ..DeviceMemory::default()
        };
        let mut reading = Reading { devices: vec![driver, other.clone()], ..Reading::default() };
        reading.join_devices(vec![torch]);
        assert_eq!(reading.devices.len(), 2);
        assert_eq!(reading.devices[0].id, "cuda:0");
        assert_eq!(reading.devices[0].driver.used, Some(Bytes(7)));
        assert_eq!(reading.devices[0].torch.allocated, Some(Bytes(3)));
        assert_eq!(reading.devices[1], other);
    }

    fn card(id: &str, name: &str, uuid: Option<&str>, used: u64) -> DeviceMemory {
        DeviceMemory {
            id: id.into(),
            name: Some(name.into()),
            uuid: uuid.map(Into::into),
            total: Some(Bytes(80)),
            driver: used_by_all(used),
            ..DeviceMemory::default()
        }
    }

    /// Ids and used bytes after joining.
    fn joined(driver: &[DeviceMemory], torch: &[DeviceMemory]) -> Vec<(String, Option<Bytes>)> {
        let mut reading = Reading { devices: driver.to_vec(), ..Reading::default() };
        reading.join_devices(torch.to_vec());
        reading.devices.into_iter().map(|device| (device.id, device.driver.used)).collect()
    }

    fn shown(rows: &[(&str, u64)]) -> Vec<(String, Option<Bytes>)> {
        rows.iter().map(|(id, used)| ((*id).to_owned(), Some(Bytes(*used)))).collect()
    }

    #[test]
    fn a_card_without_an_address_is_found_by_its_number() {
        let at = |pci: &str, row| DeviceMemory { pci: Some(pci.into()), ..row };
        let driver = [
            at("0000:01:00.0", card("nvml:0", "RTX", Some("aa"), 7)),
            at("0000:02:00.0", card("nvml:1", "RTX", Some("bb"), 9)),
        ];
        let torch = [card("cuda:0", "RTX", Some("bb"), 5)];
        assert_eq!(joined(&driver, &torch), shown(&[("cuda:0", 9), ("nvml:0", 7)]));
    }

    #[test]
    fn a_card_without_address_and_number_is_found_by_name_where_only_one_fits() {
        let driver = [card("nvml:0", "RTX", Some("aa"), 7), card("nvml:1", "H100", Some("bb"), 9)];
        let torch = [card("cuda:0", "H100", None, 5)];
        assert_eq!(joined(&driver, &torch), shown(&[("cuda:0", 9), ("nvml:0", 7)]));
        // Either of the two fits: both stay, and neither lends its numbers.
        let twins = [card("nvml:0", "RTX", None, 7), card("nvml:1", "RTX", None, 9)];
        let torch = [card("cuda:0", "RTX", None, 5)];
        let rows = shown(&[("cuda:0", 5), ("nvml:0", 7), ("nvml:1", 9)]);
        assert_eq!(joined(&twins, &torch), rows);
        // Two numbers that differ are two cards.
        let torch = [card("cuda:0", "H100", Some("cc"), 5)];
        let rows = shown(&[("cuda:0", 5), ("nvml:0", 7), ("nvml:1", 9)]);
        assert_eq!(joined(&driver, &torch), rows);
    }

    #[test]
    fn a_slice_with_a_number_of_its_own_is_not_shown_beside_its_card() {
        let driver = [card("nvml:0", "NVIDIA A100", Some("aa"), 70)];
        let slice = DeviceMemory {
            total: Some(Bytes(10)),
            ..card("cuda:0", "NVIDIA A100 MIG 1g.10gb", Some("mig"), 1)
        };
        assert_eq!(joined(&driver, &[slice]), shown(&[("cuda:0", 1)]));
    }
}
