//! macOS: `phys_footprint` is what a process costs; the resident size is wrong both ways. Pages
//! go to the compressor by themselves, so there is little to release.
//!
//! Compiled for macOS; nothing here has run on a real system under our tests. It stays on the
//! symbols of libSystem, so that it links without Apple's frameworks.

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

    /// There are no files to read beneath the roots: the system answers either way.
    pub(crate) fn at(_roots: Roots) -> Self {
        Self
    }
}

/// Every number is one cheap call, so a quick reading is a full one.
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
