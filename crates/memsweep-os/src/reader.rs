//! Readings, one after the other, of one machine.

use memsweep_core::reading::{Reading, SCHEMA};

use crate::devices::view;
use crate::platform::Platform;
use crate::system::Host;

/// How much a reading asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The numbers that move and cost little, for somebody who asks several times a second. Left out
    /// (`None`) are the C heap's free bytes, how much of a device each process uses and, once
    /// something was parked, how much still is.
    Quick,
    /// Everything. Trusts nothing that an earlier reading found, and costs up to a hundred times as
    /// much.
    Full,
}

/// Reads one machine again and again, and keeps what does not change meanwhile: where the limits of
/// our control groups are, which devices there are, and what they are called.
///
/// A quick reading relies on what was kept, and the first one looks for it. Every full reading looks
/// for it anew, and a quick one does where it notices that something is not true any more: this
/// process moved to another control group, something else was mounted in the place of the limits, or
/// a device is gone. It does not notice a device that was added.
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
    /// The first call on a machine with NVIDIA's driver library initialises that library, which
    /// can take a tenth of a second; later calls reuse it.
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
