//! What a self-test needs from the machine, as a trait so that tests can use one that lies.

use std::path::Path;

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::Reading;
use memsweep_core::reason::Missing;
use memsweep_os::Os;

/// The machine as a self-test sees it.
pub trait Machine {
    /// The numbers now.
    fn read(&mut self) -> Reading;
    /// Carries out an action of the operating system.
    fn release(&mut self, action: &Action) -> Outcome;
    /// Parks memory that the caller lends.
    fn park(&mut self, memory: &mut [Vec<u8>], folder: &Path) -> Outcome;
    /// How much of a file is in the page cache, where that is known.
    fn cached(&self, file: &Path) -> Option<Bytes>;
    /// Whether the heap's free pages, cached files and parked memory are certain to be given back,
    /// as on Linux with glibc's heap. Elsewhere the calls exist, but it is unknown what they give
    /// back.
    fn promises(&self) -> bool;
}

/// The machine that this runs on.
#[derive(Debug)]
pub struct ThisMachine(Os);

impl ThisMachine {
    /// Opens nothing; the first reading does.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "there is only one machine, so no default")]
    pub fn new() -> Self {
        Self(Os::current())
    }
}

impl Machine for ThisMachine {
    fn read(&mut self) -> Reading {
        self.0.read()
    }

    fn release(&mut self, action: &Action) -> Outcome {
        self.0.release(action).unwrap_or_else(|| Outcome::unsupported(Missing::NoModels))
    }

    fn park(&mut self, memory: &mut [Vec<u8>], folder: &Path) -> Outcome {
        self.0.park_lent(memory, folder)
    }

    fn cached(&self, file: &Path) -> Option<Bytes> {
        self.0.cached(file)
    }

    fn promises(&self) -> bool {
        cfg!(target_os = "linux") && self.0.parking_refused().is_none()
    }
}
