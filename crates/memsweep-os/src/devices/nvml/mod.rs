//! NVIDIA devices through NVML, the driver's management library. It is opened at the first
//! reading, once per process, and stays open; it creates no CUDA context.
//!
//! A call into the driver takes from microseconds to a tenth of a second, so a reading asks only
//! for what changes: three calls per card, or one in a quick reading. Names are asked for once.

mod calls;
mod forks;
mod shares;

use std::sync::{Arc, Mutex, OnceLock};

use nvml_wrapper::{Device, Nvml};

use self::calls::Lost;
use self::forks::Calls;
use super::pci;
use super::view::{DriverCard, Identity, Memory};
use crate::Detail;
use memsweep_core::reading::Source;

/// The cards as they were last looked up; `None` before that.
#[derive(Debug, Default)]
pub(crate) struct Cards(Option<Vec<Arc<Card>>>);

impl Cards {
    /// One view of each card, `nvml:<index>`; none where there is no driver.
    ///
    /// A quick reading uses the known cards, and looks them up again when one is lost. `own_pid` is
    /// our process id in the driver's lists, where that is known.
    pub(crate) fn read(
        &mut self,
        detail: Detail,
        own_pid: impl FnOnce() -> Option<u32>,
    ) -> Vec<DriverCard> {
        static LIBRARY: OnceLock<Option<Nvml>> = OnceLock::new();
        static CALLS: Calls = Calls::new();
        let Some(_entered) = CALLS.enter() else { return Vec::new() };
        let Some(library) = LIBRARY.get_or_init(|| Nvml::init().ok()) else { return Vec::new() };
        let known = if detail == Detail::Quick { self.known() } else { None };
        if let Some(views) = known {
            return views;
        }
        let whose = match detail {
            Detail::Quick => Whose::NotAsked,
            Detail::Full => Whose::Of(own_pid()),
        };
        let count = library.device_count().unwrap_or(0);
        let found = (0..count).filter_map(|index| at_place(library, index, whose));
        let (cards, views) = found.unzip();
        self.0 = Some(cards);
        views
    }

    /// `None` before the first look-up, and when a card is lost.
    fn known(&self) -> Option<Vec<DriverCard>> {
        let cards = self.0.as_ref()?.iter();
        cards.map(|card| ask(card, Whose::NotAsked).ok()).collect()
    }
}

/// Whether to ask how much each process uses.
#[derive(Clone, Copy)]
enum Whose {
    NotAsked,
    /// Our process id in the driver's lists, where that is known.
    Of(Option<u32>),
}

/// A card that fell off the bus does not answer and is left out; another may have its index.
fn at_place(library: &'static Nvml, index: u32, whose: Whose) -> Option<(Arc<Card>, DriverCard)> {
    if let Some(card) = remembered(index) {
        match ask(&card, whose) {
            Ok(view) => return Some((card, view)),
            Err(Lost) => forget(index),
        }
    }
    let card = Arc::new(look(library, index)?);
    let view = ask(&card, whose).ok()?;
    remember(&card);
    Some((card, view))
}

/// What does not change about a card while the library is open.
#[derive(Debug)]
struct Card {
    device: Device<'static>,
    index: u32,
    identity: Identity,
}

static KNOWN: Mutex<Vec<Arc<Card>>> = Mutex::new(Vec::new());

// Nobody waits for the list: if another thread has it, the driver is asked instead.

fn remembered(index: u32) -> Option<Arc<Card>> {
    let known = KNOWN.try_lock().ok()?;
    known.iter().find(|card| card.index == index).map(Arc::clone)
}

fn remember(card: &Arc<Card>) {
    if let Ok(mut known) = KNOWN.try_lock() {
        known.retain(|other| other.index != card.index);
        known.push(Arc::clone(card));
    }
}

fn forget(index: u32) {
    if let Ok(mut known) = KNOWN.try_lock() {
        known.retain(|card| card.index != index);
    }
}

fn look(library: &'static Nvml, index: u32) -> Option<Card> {
    let device = library.device_by_index(index).ok()?;
    let identity = Identity {
        id: format!("nvml:{index}"),
        name: device.name().ok(),
        pci: device.pci_info().ok().and_then(|info| pci::normalize(&info.bus_id)),
        uuid: device.uuid().ok().map(|uuid| plain(&uuid)),
    };
    Some(Card { device, index, identity })
}

/// Torch writes the same uuid without the prefix.
fn plain(uuid: &str) -> String {
    uuid.strip_prefix("GPU-").unwrap_or(uuid).to_ascii_lowercase()
}

fn ask(card: &Card, whose: Whose) -> Result<DriverCard, Lost> {
    let (total, used) = calls::memory(&card.device)?;
    let (process, others) = match whose {
        Whose::NotAsked => (None, None),
        Whose::Of(own_pid) => {
            let compute = calls::computing(&card.device)?;
            let graphics = calls::drawing(&card.device)?;
            shares::split(compute.as_deref(), graphics.as_deref(), own_pid)
        }
    };
    let memory = Memory { total, used, process, others };
    Ok(DriverCard { identity: card.identity.clone(), memory, source: Source::Nvml })
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
