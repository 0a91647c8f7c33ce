//! A platform without an implementation: every number is unknown, every action unsupported. The
//! other platforms use its parts for what they lack.
#![allow(dead_code, reason = "a platform takes what it lacks")]

pub(crate) mod libraries;

use memsweep_core::park::{ParkLimits, Parked};

use crate::platform::Platform;
use crate::{Gate, Roots};

#[derive(Clone, Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn current() -> Self {
        Self
    }

    pub(crate) fn at(_roots: Roots) -> Self {
        Self
    }
}

impl Platform for Host {
    type Kept = ();
}

/// Cannot exist: nothing can be parked here.
#[derive(Debug)]
pub(crate) enum Survey {}

impl Survey {
    /// # Safety
    /// None: there is no such survey.
    pub(crate) unsafe fn park(self, _: &[u32], _: &ParkLimits, _: &mut dyn Gate) -> Parked {
        match self {}
    }
}

/// The smallest that there is: asking twice for a larger page does no harm.
pub(crate) fn page_size() -> usize {
    4096
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use memsweep_core::action::Outcome;
    use memsweep_core::reading::{MachineMemory, ProcessMemory};

    use super::*;
    use crate::Detail;

    #[test]
    fn an_unknown_platform_knows_nothing_and_does_nothing() {
        let host = Host::at(Roots::default());
        for detail in [Detail::Quick, Detail::Full] {
            assert_eq!(host.process(detail), ProcessMemory::default());
            assert_eq!(host.machine(detail, &mut ()), MachineMemory::default());
            assert!(host.devices(detail, &mut ()).is_empty());
        }
        assert!(host.mapped_files(&[Path::new("/")], &[]).is_empty() && host.children().is_empty());
        for outcome in [
            host.trim_heap(),
            host.drop_file_cache(&["/etc/hostname".to_owned()]),
            host.system_wide(),
            host.drop_system_caches(),
            host.empty_working_set(),
        ] {
            assert!(matches!(outcome, Outcome::Unsupported { .. }), "{outcome:?}");
        }
    }
}
