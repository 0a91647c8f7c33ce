//! The self-test on this machine, on machines that lie, and as a program.
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memsweep_cli::{Finding, Machine, Selftest, ThisMachine, selftest};
use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::park::Parked;
use memsweep_core::reading::Reading;
use serde_json::Value;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn finding(tested: &Selftest, name: &str) -> Finding {
    tested.trials.iter().find(|trial| trial.name == name).unwrap().finding
}

/// What runs in this process measures this process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that everything was given back, and does nothing.
struct Liar(ThisMachine);

impl Machine for Liar {
    fn read(&mut self) -> Reading {
        self.0.read()
    }

    fn release(&mut self, _: &Action) -> Outcome {
        Outcome::Done { claimed: Some(Bytes::from_mib(64)), detail: None }
    }

    fn park(&mut self, memory: &mut [Vec<u8>], _: &Path) -> Outcome {
        let bytes = memory.iter().map(|one| Bytes(one.len() as u64)).sum();
        Outcome::Parked(Parked { bytes, ..Parked::default() })
    }

    fn cached(&self, _: &Path) -> Option<Bytes> {
        Some(Bytes::from_mib(64))
    }

    fn promises(&self) -> bool {
        true
    }
}

#[test]
fn a_false_claim_is_found_in_every_trial() {
    let _alone = alone();
    let tested = selftest(&mut Liar(ThisMachine::new()), folder(), true);
    for name in ["heap", "file cache", "park", "system-wide"] {
        assert_eq!(finding(&tested, name), Finding::FalseClaim, "{name}: {tested}");
    }
    assert!(!tested.passed);
}

/// Always shows the same numbers.
struct Frozen(ThisMachine, Reading);

impl Machine for Frozen {
    fn read(&mut self) -> Reading {
        self.1.clone()
    }

    fn release(&mut self, action: &Action) -> Outcome {
        self.0.release(action)
    }

    fn park(&mut self, memory: &mut [Vec<u8>], folder: &Path) -> Outcome {
        self.0.park(memory, folder)
    }

    fn cached(&self, file: &Path) -> Option<Bytes> {
        self.0.cached(file)
    }

    fn promises(&self) -> bool {
        self.0.promises()
    }
}

#[test]
fn a_reading_that_sees_nothing_is_found() {
    let _alone = alone();
    let mut machine = ThisMachine::new();
    let reading = machine.read();
    let tested = selftest(&mut Frozen(machine, reading), folder(), false);
    assert_eq!(finding(&tested, "reading"), Finding::TooLittle);
    let tested = selftest(&mut Frozen(ThisMachine::new(), Reading::default()), folder(), false);
    assert_eq!(finding(&tested, "reading"), Finding::NotMeasured);
    assert!(!tested.passed);
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memsweep"));
    command.arg("selftest").args(arguments).arg("--folder").arg(folder());
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn trial<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["trials"].as_array().unwrap().iter().find(|trial| trial["name"] == name).unwrap()
}

#[test]
fn this_machine_passes() {
    let output = command(&["--json"]).output().unwrap();
    let report = json(&output);
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["passed"], true);
    assert_eq!(trial(&report, "reading")["finding"], "works");
    let shown = String::from_utf8(command(&[]).output().unwrap().stdout).unwrap();
    assert!(shown.trim_end().ends_with("trials passed"), "{shown}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let arguments = ["selftest", "--json", "--folder", "/no/such/folder"];
    let output = Command::new(env!("CARGO_BIN_EXE_memsweep")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    let failed = trial(&report, "file cache");
    assert_eq!(failed["finding"], "failed");
    assert!(failed["detail"].as_str().unwrap().contains("/no/such/folder"));
    let parked = &trial(&report, "park")["finding"];
    assert!(parked == "not_done" || parked == "not_supported", "{report:#}");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux {
    use super::*;

    #[test]
    fn everything_that_is_promised_works() {
        let report = json(&command(&["--json"]).output().unwrap());
        // valgrind brings an allocator of its own, for which nothing is promised.
        if std::env::var("LD_PRELOAD").unwrap_or_default().contains("vgpreload") {
            return;
        }
        for name in ["reading", "heap", "file cache", "park"] {
            assert_eq!(trial(&report, name)["finding"], "works", "{report:#}");
        }
    }

    /// A `malloc_trim` that says it gave pages back, and did not.
    #[test]
    fn a_lie_of_the_c_library_is_found() {
        let (source, library) = (folder().join("lie.c"), folder().join("liblie.so"));
        std::fs::write(&source, "int malloc_trim(unsigned long pad) { return 1; }\n").unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        assert!(compiler.status().unwrap().success());
        let output = command(&["--json"]).env("LD_PRELOAD", &library).output().unwrap();
        let report = json(&output);
        assert_eq!(output.status.code(), Some(1), "{report:#}");
        assert_eq!(trial(&report, "heap")["finding"], "too_little");
        assert_eq!(trial(&report, "park")["finding"], "works");
    }
}

#[cfg(windows)]
#[test]
fn emptying_the_working_set_is_never_called_freeing() {
    let report = json(&command(&["--json"]).output().unwrap());
    let row = trial(&report, "system-wide");
    assert_eq!(row["detail"], "paged out, not freed");
    assert_eq!((row["claimed"].is_null(), row["finding"] == "no_promise"), (true, true));
}
