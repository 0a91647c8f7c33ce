//! A platform nobody wrote calls for: every number is unknown, every action unsupported.

use crate::Roots;
use crate::platform::Platform;

#[derive(Debug)]
pub(crate) struct Host;

impl Host {
    #[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
    pub(crate) fn current() -> Self {
        Self
    }

    pub(crate) fn at(_roots: Roots) -> Self {
        Self
    }
}

impl Platform for Host {}

#[cfg(test)]
mod tests {
    use memsweep_core::action::Outcome;
    use memsweep_core::reading::{MachineMemory, ProcessMemory};

    use super::*;

    #[test]
    fn an_unknown_platform_knows_nothing_and_does_nothing() {
        let host = Host::at(Roots::default());
        assert_eq!(host.process(), ProcessMemory::default());
        assert_eq!(host.machine(), MachineMemory::default());
        assert!(host.devices().is_empty());
        assert!(host.mapped_files().is_empty());
        for outcome in [
            host.trim_heap(),
            host.drop_file_cache(&["/etc/hostname".to_owned()]),
            host.drop_system_caches(),
            host.empty_working_set(),
        ] {
            assert!(matches!(outcome, Outcome::Unsupported { .. }), "{outcome:?}");
        }
    }
}
