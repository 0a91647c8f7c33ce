//! Windows: three numbers that must not be confused (commit charge, working set, available), and
//! the heaps.
//!
//! Compiled for Windows; our tests do not prove the effect of the releases on a real system.
//! Deliberately absent: everything that needs elevation (standby list, system file cache), and
//! dropping the cached pages of one file, for which Windows has no call.

mod answers;
mod heap;
pub(crate) mod libraries;
mod machine;
mod process;
mod system_wide;

use memsweep_core::action::Outcome;
use memsweep_core::reading::{MachineMemory, ProcessMemory};

use crate::devices::nvml;
use crate::devices::view::DriverCard;
use crate::platform::Platform;
pub(crate) use crate::unsupported::{Survey, page_size};
use crate::{Detail, Roots};

#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Whether readings may ask the driver library.
    live: bool,
}

impl Host {
    pub(crate) fn current() -> Self {
        Self { live: true }
    }

    /// There are no files beneath the roots: the system is asked in any case.
    pub(crate) fn at(_roots: Roots) -> Self {
        Self { live: false }
    }
}

/// The numbers of process and machine take a few calls, so a quick reading has all of them.
impl Platform for Host {
    type Kept = nvml::Cards;

    fn process(&self, _: Detail) -> ProcessMemory {
        process::read()
    }

    fn machine(&self, _: Detail, _: &mut nvml::Cards) -> MachineMemory {
        machine::read()
    }

    fn devices(&self, detail: Detail, kept: &mut nvml::Cards) -> Vec<DriverCard> {
        if !self.live {
            return Vec::new();
        }
        kept.read(detail, || Some(std::process::id()))
    }

    fn trim_heap(&self) -> Outcome {
        heap::trim()
    }

    fn system_wide(&self) -> Outcome {
        self.empty_working_set()
    }

    fn empty_working_set(&self) -> Outcome {
        system_wide::empty_working_set()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_plausible_and_releases_claim_nothing() {
        let host = Host::at(Roots::default());
        assert!(host.process(Detail::Full).resident.is_some_and(|bytes| bytes.0 > 0));
        let machine = host.machine(Detail::Full, &mut nvml::Cards::default());
        assert!(machine.total.is_some_and(|total| Some(total) >= machine.available));
        assert!(machine.commit_limit.is_some_and(|limit| Some(limit) >= machine.commit_used));
        assert!(machine.swap_free <= machine.swap_total);
        for outcome in [host.trim_heap(), host.empty_working_set()] {
            assert!(matches!(outcome, Outcome::Done { claimed: None, .. }), "{outcome:?}");
        }
        assert!(matches!(host.drop_system_caches(), Outcome::Unsupported { .. }));
    }
}
