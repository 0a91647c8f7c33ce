//! Ctrl-C ends a command with everything that it started, and its exit status says so.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// A Python that never answers. It starts one more program, and writes down who both are.
const SILENT: &str = "#!/bin/sh\nsleep 600 &\necho $$ $! > \"$0.started\"\nwait\n";

/// Long enough for any machine: nothing is judged by time.
fn patiently<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited for a minute")
}

fn runs(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn ctrl_c_ends_the_command_and_all_that_it_started() {
    let folder = env::temp_dir().join(format!("xtask-ctrl-c-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let python = folder.join("python");
    fs::write(&python, SILENT).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("setup")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env("MEMSWEEP_PYTHON", &python)
        .env("MEMSWEEP_CACHE", folder.join("cache"))
        .spawn()
        .unwrap();
    let started = PathBuf::from(format!("{}.started", python.display()));
    let ids = patiently(|| {
        let text = fs::read_to_string(&started).unwrap_or_default();
        text.ends_with('\n').then(|| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    });
    assert!(ids.len() == 2 && ids.iter().all(|id| runs(id)), "{ids:?}");
    let interrupt = Command::new("kill").args(["-INT", &command.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let status = patiently(|| command.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert!(!ids.iter().any(|id| runs(id)), "{ids:?}");
    fs::remove_dir_all(folder).unwrap();
}
