//! NVIDIA devices through NVML, the driver's management library. It is opened at the first
//! reading, once per process, and stays open; it creates no CUDA context.

use std::sync::OnceLock;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::DeviceMemory;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::struct_wrappers::device::{MemoryInfo, ProcessInfo};
use nvml_wrapper::{Device, Nvml};

use super::pci;

/// One row per device, `nvml:<index>`; none where there is no driver.
pub(crate) fn read() -> Vec<DeviceMemory> {
    static LIBRARY: OnceLock<Option<Nvml>> = OnceLock::new();
    let Some(library) = LIBRARY.get_or_init(|| Nvml::init().ok()) else { return Vec::new() };
    let count = library.device_count().unwrap_or(0);
    // A device that fell off the bus answers nothing and gets no row.
    (0..count)
        .filter_map(|index| Some(read_device(index, &library.device_by_index(index).ok()?)))
        .collect()
}

fn read_device(index: u32, device: &Device<'_>) -> DeviceMemory {
    let mut row = DeviceMemory {
        id: format!("nvml:{index}"),
        name: device.name().ok(),
        pci: device.pci_info().ok().and_then(|info| pci::normalize(&info.bus_id)),
        source: Some("nvml".to_owned()),
        ..DeviceMemory::default()
    };
    if let Ok(info) = device.memory_info() {
        (row.total, row.used) = totals(&info);
    }
    let compute = device.running_compute_processes().unwrap_or_default();
    let graphics = device.running_graphics_processes().unwrap_or_default();
    let shares: Vec<Share> = compute.iter().chain(&graphics).map(Share::from).collect();
    (row.process, row.others) = split(&shares, std::process::id());
    row
}

/// What programs can have, and what they have. The driver's own reserve is in neither, as in
/// CUDA's own total, so that total less used is what the driver calls free.
fn totals(info: &MemoryInfo) -> (Option<Bytes>, Option<Bytes>) {
    (info.total.checked_sub(info.reserved).map(Bytes), Some(Bytes(info.used)))
}

/// One process on one device, or on one slice of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    pid: u32,
    slice: Option<u32>,
    used: Option<u64>,
}

impl From<&ProcessInfo> for Share {
    fn from(info: &ProcessInfo) -> Self {
        let used = match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            // Always under Windows' display driver model.
            UsedGpuMemory::Unavailable => None,
        };
        Self { pid: info.pid, slice: info.gpu_instance_id, used }
    }
}

/// Our bytes, and everybody else's.
///
/// Both are unknown when we are not in the list: in a container the driver's process ids are
/// not ours, so a missing entry does not mean that we use nothing.
fn split(shares: &[Share], own_pid: u32) -> (Option<Bytes>, Option<Bytes>) {
    // A process that computes and draws is listed twice with the same bytes.
    let mut distinct: Vec<Share> = Vec::new();
    for share in shares {
        if !distinct.iter().any(|seen| seen.pid == share.pid && seen.slice == share.slice) {
            distinct.push(*share);
        }
    }
    if !distinct.iter().any(|share| share.pid == own_pid) {
        return (None, None);
    }
    let (own, others): (Vec<Share>, Vec<Share>) =
        distinct.into_iter().partition(|share| share.pid == own_pid);
    (sum(&own), sum(&others))
}

fn sum(shares: &[Share]) -> Option<Bytes> {
    shares.iter().map(|share| share.used.map(Bytes)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(pid: u32, used: Option<u64>) -> Share {
        Share { pid, slice: None, used }
    }

    #[test]
    fn our_share_is_known_only_when_we_are_listed() {
        for (shares, own, others) in [
            (vec![], None, None),
            (vec![share(7, Some(5))], None, None),
            (vec![share(1, Some(5))], Some(5), Some(0)),
            (vec![share(1, Some(5)), share(7, Some(2)), share(8, Some(3))], Some(5), Some(5)),
            (vec![share(1, None), share(7, Some(2))], None, Some(2)),
            (vec![share(1, Some(5)), share(7, None), share(8, Some(3))], Some(5), None),
            // Listed for computing and for drawing.
            (vec![share(1, Some(5)), share(7, Some(2)), share(1, Some(5))], Some(5), Some(2)),
        ] {
            assert_eq!(split(&shares, 1), (own.map(Bytes), others.map(Bytes)), "{shares:?}");
        }
    }

    #[test]
    fn slices_of_one_device_add_up() {
        let slice = |number| Share { pid: 1, slice: Some(number), used: Some(4) };
        assert_eq!(split(&[slice(1), slice(2)], 1).0, Some(Bytes(8)));
    }

    #[test]
    fn the_drivers_reserve_is_nobodys_memory() {
        let info = MemoryInfo { free: 60, reserved: 10, total: 100, used: 30, version: 2 };
        assert_eq!(totals(&info), (Some(Bytes(90)), Some(Bytes(30))));
        let impossible = MemoryInfo { reserved: 101, ..info };
        assert_eq!(totals(&impossible).0, None);
    }
}
