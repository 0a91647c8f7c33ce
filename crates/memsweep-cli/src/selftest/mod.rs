//! `memsweep selftest`: throw-away memory is released in every way the system offers, and what was
//! measured is compared with what was promised and what was claimed.
//!
//! It is meant for machines that the project's own tests never ran on: attach it to a bug report.

mod judge;
mod show;
mod trials;

use std::path::Path;

use memsweep_core::bytes::{Bytes, Change};
use memsweep_core::reading::Reading;
use serde::Serialize;

pub use self::judge::Finding;
use crate::machine::Machine;

/// All trials on one machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Selftest {
    /// Version of this shape.
    pub schema: u32,
    /// MemSweep's version.
    pub version: &'static str,
    /// Operating system and processor.
    pub system: String,
    /// Whether every trial passed.
    pub passed: bool,
    /// In the order in which they ran.
    pub trials: Vec<Trial>,
    /// The machine afterwards.
    pub reading: Reading,
}

/// One action on throw-away memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// What was done.
    pub name: &'static str,
    /// What this system is certain to give back; `None` where it promises nothing.
    pub expected: Option<Bytes>,
    /// What the action itself claims to have given back.
    pub claimed: Option<Bytes>,
    /// The difference of the readings before and after.
    pub measured: Option<Change>,
    /// The outcome compared with the measurement.
    pub finding: Finding,
    /// What the action or the system reported, in words.
    pub detail: Option<String>,
}

/// Runs every trial. Files of at most 64 MiB go to `folder` and are gone afterwards. `system_wide`
/// also drops the page cache of the whole machine, where that is possible and permitted.
pub fn selftest(machine: &mut impl Machine, folder: &Path, system_wide: bool) -> Selftest {
    let mut trials = vec![
        trials::readings(machine),
        trials::heap(machine),
        trials::file_cache(machine, folder),
        trials::park(machine, folder),
    ];
    if system_wide || cfg!(windows) {
        trials.push(trials::system_wide(machine));
    }
    Selftest {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        passed: trials.iter().all(|trial| trial.finding.passes()),
        trials,
        reading: machine.read(),
    }
}
