//! What a quick reading asks NVIDIA's driver for, and that it notices a card that is lost.
//!
//! The driver is the stand-in of tests/stand_ins/nvml.c, and the reading takes place in a child that
//! finds it by its name.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use memsweep_core::bytes::Bytes;
use memsweep_os::{Detail, Os, Reader};

const SCRIPT: &str = "NVML_STAND_IN";
const FIRST: &str = "00000000:01:00.0";
const SECOND: &str = "00000000:02:00.0";

/// Runs the test of this name again, in a child that finds the driver. `true` in the child.
fn is_child(name: &str) -> bool {
    if std::env::var_os(SCRIPT).is_some() {
        return true;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/stand_ins/nvml.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o"]);
    let built = compiler.arg(folder.path().join("libnvidia-ml.so.1")).arg(source).status();
    assert!(built.unwrap().success());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(SCRIPT, folder.path().join("script"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// The driver as the child sees it.
struct Driver {
    script: PathBuf,
    calls: PathBuf,
}

impl Driver {
    fn new() -> Self {
        let script = PathBuf::from(std::env::var_os(SCRIPT).unwrap());
        let calls = script.with_file_name("calls");
        Self { script, calls }
    }

    fn has(&self, lines: &str) {
        fs::write(&self.script, format!("calls {}\n{lines}", self.calls.display())).unwrap();
    }

    /// The functions that were called since this was asked last.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(&self.calls).unwrap_or_default();
        let _ = fs::remove_file(&self.calls);
        calls.lines().map(str::to_owned).collect()
    }
}

fn card(bus: &str, used: u64) -> String {
    format!("card {bus} GPU-{} 1000 0 {used} NVIDIA H100\n", &bus[9..11])
}

fn used(reader: &mut Reader, detail: Detail) -> Vec<(String, Option<Bytes>)> {
    let devices = reader.read(detail).devices;
    assert!(devices.iter().all(|row| row.total == Some(Bytes(1000))), "{devices:?}");
    assert!(devices.iter().all(|row| row.name.as_deref() == Some("NVIDIA H100")), "{devices:?}");
    devices.into_iter().map(|row| (row.pci.unwrap()[5..7].to_owned(), row.driver.used)).collect()
}

fn seen(rows: &[(&str, u64)]) -> Vec<(String, Option<Bytes>)> {
    rows.iter().map(|(bus, used)| ((*bus).to_owned(), Some(Bytes(*used)))).collect()
}

#[test]
fn a_quick_reading_asks_one_question_a_card() {
    if !is_child("a_quick_reading_asks_one_question_a_card") {
        return;
    }
    let driver = Driver::new();
    driver.has(&(card(FIRST, 7) + &card(SECOND, 9)));
    let mut reader = Os::current().reader();
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[("01", 7), ("02", 9)]));
    let lists = |calls: &[String]| calls.iter().filter(|call| call.contains("Processes")).count();
    assert_eq!(lists(&driver.calls()), 0, "not the first one either");
    driver.has(&(card(FIRST, 70) + &card(SECOND, 90)));
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[("01", 70), ("02", 90)]));
    assert_eq!(driver.calls(), ["nvmlDeviceGetMemoryInfo_v2"; 2]);
    assert_eq!(used(&mut reader, Detail::Full), seen(&[("01", 70), ("02", 90)]));
    assert_eq!(lists(&driver.calls()), 4);
}

#[test]
fn a_quick_reading_notices_a_card_that_is_lost() {
    if !is_child("a_quick_reading_notices_a_card_that_is_lost") {
        return;
    }
    let driver = Driver::new();
    driver.has(&(card(FIRST, 7) + &card(SECOND, 9)));
    let mut reader = Os::current().reader();
    let _ = reader.read(Detail::Full);
    driver.has(&(card(FIRST, 7) + &card(SECOND, 9) + &format!("lost {FIRST}\n")));
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[("02", 9)]));
    // Pulled out, so that the other one has its place.
    driver.has(&card(SECOND, 9));
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[("02", 9)]));
    driver.has("");
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[]));
    // One that was added is seen by the next full reading.
    driver.has(&card(FIRST, 1));
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[]));
    assert_eq!(used(&mut reader, Detail::Full), seen(&[("01", 1)]));
    assert_eq!(used(&mut reader, Detail::Quick), seen(&[("01", 1)]));
}
