//! macOS: `phys_footprint` is what a process costs; the resident size is wrong both ways. Pages
//! go to the compressor by themselves, so there is little to release.
//!
//! Compiled for macOS; nothing here has run on a real system under our tests. It stays on the
//! symbols of libSystem, so that it links without Apple's frameworks.

mod memory;

use std::ffi::c_void;
use std::ptr;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};
use memsweep_core::reason::Nothing;

use crate::Roots;
use crate::platform::Platform;

unsafe extern "C" {
    /// `malloc/malloc.h`: relieves one zone, or all when null, of at least `goal` bytes, or of
    /// everything when 0; returns the bytes released.
    fn malloc_zone_pressure_relief(zone: *mut c_void, goal: usize) -> usize;
}

#[derive(Debug)]
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

impl Platform for Host {
    fn process(&self) -> ProcessMemory {
        memory::process()
    }

    fn machine(&self) -> MachineMemory {
        memory::machine()
    }

    fn trim_heap(&self) -> Outcome {
        // SAFETY: a null zone stands for all zones, which take their own locks.
        let released = unsafe { malloc_zone_pressure_relief(ptr::null_mut(), 0) };
        if released == 0 {
            return Outcome::nothing(Nothing::HeapInUse);
        }
        Outcome::Done {
            claimed: Some(Bytes(released as u64)),
            detail: Some("malloc_zone_pressure_relief".to_owned()),
        }
    }
}
