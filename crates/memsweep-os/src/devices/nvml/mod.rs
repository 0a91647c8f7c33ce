//! NVIDIA devices through NVML, the driver's management library. It is opened at the first
//! reading, once per process, and stays open; it creates no CUDA context.
//!
//! A call into the driver takes from microseconds to a tenth of a second, so a reading asks only
//! for what changes: three calls a card. What a card is called is asked once.

mod calls;
mod forks;
mod shares;

use std::sync::{Arc, Mutex, OnceLock};

use memsweep_core::reading::DeviceMemory;
use nvml_wrapper::{Device, Nvml};

use self::calls::Lost;
use self::forks::Calls;
use self::shares::split;
use super::pci;

/// One row per device, `nvml:<index>`; none where there is no driver.
///
/// `own_pid` is this process as the driver numbers it, where that is known.
pub(crate) fn read(own_pid: Option<u32>) -> Vec<DeviceMemory> {
    static LIBRARY: OnceLock<Option<Nvml>> = OnceLock::new();
    static CALLS: Calls = Calls::new();
    let Some(_entered) = CALLS.enter() else { return Vec::new() };
    let Some(library) = LIBRARY.get_or_init(|| Nvml::init().ok()) else { return Vec::new() };
    let count = library.device_count().unwrap_or(0);
    let mut rows: Vec<DeviceMemory> = Vec::new();
    for row in (0..count).filter_map(|index| read_place(library, index, own_pid)) {
        // While a card is being pulled out, the places of the others may move up.
        if !rows.iter().any(|other| other.is_same_card(&row)) {
            rows.push(row);
        }
    }
    rows
}

/// A card that fell off the bus answers nothing and gets no row; there may be another in its place.
fn read_place(library: &'static Nvml, index: u32, own_pid: Option<u32>) -> Option<DeviceMemory> {
    if let Some(card) = remembered(index) {
        match read_card(&card, own_pid) {
            Ok(row) => return Some(row),
            Err(Lost) => forget(index),
        }
    }
    let card = look(library, index)?;
    let row = read_card(&card, own_pid).ok()?;
    remember(card);
    Some(row)
}

/// What stays true of a card for as long as the library is open.
#[derive(Debug)]
struct Card {
    index: u32,
    device: Device<'static>,
    name: Option<String>,
    pci: Option<String>,
    uuid: Option<String>,
}

static KNOWN: Mutex<Vec<Arc<Card>>> = Mutex::new(Vec::new());

// The list is never waited for: whoever finds it in use asks the driver.

fn remembered(index: u32) -> Option<Arc<Card>> {
    let known = KNOWN.try_lock().ok()?;
    known.iter().find(|card| card.index == index).map(Arc::clone)
}

fn remember(card: Card) {
    if let Ok(mut known) = KNOWN.try_lock() {
        known.retain(|other| other.index != card.index);
        known.push(Arc::new(card));
    }
}

fn forget(index: u32) {
    if let Ok(mut known) = KNOWN.try_lock() {
        known.retain(|card| card.index != index);
    }
}

fn look(library: &'static Nvml, index: u32) -> Option<Card> {
    let device = library.device_by_index(index).ok()?;
    Some(Card {
        index,
        name: device.name().ok(),
        pci: device.pci_info().ok().and_then(|info| pci::normalize(&info.bus_id)),
        uuid: device.uuid().ok().map(|uuid| plain(&uuid)),
        device,
    })
}

/// Torch writes the same number without the prefix.
fn plain(uuid: &str) -> String {
    uuid.strip_prefix("GPU-").unwrap_or(uuid).to_ascii_lowercase()
}

fn read_card(card: &Card, own_pid: Option<u32>) -> Result<DeviceMemory, Lost> {
    let (total, used) = calls::memory(&card.device)?;
    let compute = calls::computing(&card.device)?;
    let graphics = calls::drawing(&card.device)?;
    let (process, others) = split(compute.as_deref(), graphics.as_deref(), own_pid);
    Ok(DeviceMemory {
        id: format!("nvml:{}", card.index),
        name: card.name.clone(),
        pci: card.pci.clone(),
        uuid: card.uuid.clone(),
        total,
        used,
        process,
        others,
        source: Some("nvml".to_owned()),
        ..DeviceMemory::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cards_number_is_written_as_torch_writes_it() {
        assert_eq!(plain("GPU-5A0C1d2e-0000"), "5a0c1d2e-0000");
        assert_eq!(plain("MIG-5a0c"), "mig-5a0c");
    }
}
