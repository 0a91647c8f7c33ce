//! Repeated readings of one machine.

use memsweep_core::reading::{Reading, SCHEMA};

use crate::devices::view;
use crate::platform::Platform;
use crate::system::Host;

/// How much a reading asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The numbers that change and cost little, for readings several times a second. Left out
    /// (`None`) are the C heap's free bytes, each process's share of a device and, once something
    /// was parked, how much is parked.
    Quick,
    /// Everything, without relying on an earlier reading. Takes about twice as long, and far longer
    /// with many free blocks in the heap, a long mount table or a slow driver.
    Full,
}

/// Reads one machine repeatedly, and keeps what does not change in between: where the limits of our
/// control groups are, which devices there are, and what they are called.
///
/// A full reading looks all of this up again. A quick reading relies on what was kept, and looks it
/// up only if it is the first, or if it notices a change: this process moved to another control
/// group, something else was mounted where the limits were, or a device is gone. It does not notice
/// a new device.
#[derive(Debug)]
pub struct Reader {
    host: Host,
    kept: <Host as Platform>::Kept,
}

impl Reader {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, kept: Default::default() }
    }

    /// The numbers now. No file is written, no device context created.
    ///
    /// On a machine with NVIDIA's driver library the first call initialises that library, which can
    /// take a tenth of a second; later calls reuse it.
    #[must_use]
    pub fn read(&mut self, detail: Detail) -> Reading {
        let Self { host, kept } = self;
        Reading {
            schema: SCHEMA,
            seconds: Some(crate::seconds()),
            process: host.process(detail),
            machine: host.machine(detail, kept),
            devices: view::rows(host.devices(detail, kept)),
        }
    }
}
