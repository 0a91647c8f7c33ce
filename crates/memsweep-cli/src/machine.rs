//! What a self-test asks of the machine, so that tests can put a lying one in its place.

use std::path::Path;

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::park::{ParkLimits, choose};
use memsweep_core::reading::Reading;
use memsweep_os::{Block, Gate, Os, Stop};

/// The machine as a self-test sees it.
pub trait Machine {
    /// The numbers now.
    fn read(&mut self) -> Reading;
    /// Carries out an action of the operating system.
    fn release(&mut self, action: &Action) -> Outcome;
    /// Parks blocks that nobody but the caller knows.
    fn park(&mut self, blocks: &[Block], folder: &Path) -> Outcome;
    /// How much of a file is in the page cache, where the system tells.
    fn cached(&self, file: &Path) -> Option<Bytes>;
    /// Whether the heap's free pages, cached files and parked memory are sure to be given back: on
    /// Linux with glibc's heap. Elsewhere the calls exist, and nothing says what they give back.
    fn promises(&self) -> bool;
}

/// The machine that this runs on.
#[derive(Debug)]
pub struct ThisMachine(Os);

impl ThisMachine {
    /// Costs nothing; the first reading does.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "there is one machine, and no default of it")]
    pub fn new() -> Self {
        Self(Os::current())
    }
}

impl Machine for ThisMachine {
    fn read(&mut self) -> Reading {
        self.0.read()
    }

    fn release(&mut self, action: &Action) -> Outcome {
        self.0.release(action).unwrap_or_else(|| Outcome::Unsupported {
            reason: "it takes a program that holds models or tensors".to_owned(),
        })
    }

    fn park(&mut self, blocks: &[Block], folder: &Path) -> Outcome {
        if let Some(reason) = self.0.parking_refused() {
            return Outcome::Unsupported { reason };
        }
        let survey = match self.0.survey(folder, blocks) {
            Ok(survey) => survey,
            Err(reason) => return Outcome::Unsupported { reason },
        };
        let limits = ParkLimits::default();
        let choice = choose(&survey.facts, &survey.room, &limits);
        let mut parked = survey.park(&choice.blocks, &limits, &mut OnlyUs);
        for row in &choice.refused {
            parked.refuse(&row.reason, row.blocks, row.bytes);
        }
        Outcome::Parked(parked)
    }

    fn cached(&self, file: &Path) -> Option<Bytes> {
        self.0.cached(file)
    }

    fn promises(&self) -> bool {
        cfg!(target_os = "linux") && self.0.parking_refused().is_none()
    }
}

/// The caller made the blocks and waits: nobody else can know them.
struct OnlyUs;

impl Gate for OnlyUs {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, _: Bytes, _: Bytes) -> Result<(), Stop> {
        Ok(())
    }
}
