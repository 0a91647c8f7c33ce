//! macOS: `phys_footprint` is what a process costs; the resident size can be too large or too
//! small. The system compresses idle pages by itself, so there is little to release.
//!
//! Compiled for macOS; our tests have not run it on a real system. It uses only symbols of
//! libSystem, so that it links without Apple's frameworks.

mod heap;
mod machine;
mod process;

use memsweep_core::action::Outcome;
use memsweep_core::reading::{MachineMemory, ProcessMemory};

use crate::platform::Platform;
pub(crate) use crate::unsupported::{Survey, libraries, page_size};
use crate::{Detail, Roots};

#[derive(Clone, Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn current() -> Self {
        Self
    }

    /// There are no files beneath the roots: the system is asked in any case.
    pub(crate) fn at(_roots: Roots) -> Self {
        Self
    }
}

/// Every number is one cheap call, so a quick reading has all of them.
impl Platform for Host {
    type Kept = ();

    fn process(&self, _: Detail) -> ProcessMemory {
        process::read()
    }

    fn machine(&self, _: Detail, (): &mut ()) -> MachineMemory {
        machine::read()
    }

    fn trim_heap(&self) -> Outcome {
        heap::trim()
    }
}
