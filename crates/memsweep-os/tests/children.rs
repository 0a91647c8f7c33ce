//! The processes that this one has started.
#![cfg(target_os = "linux")]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child as Process, Command, Stdio};

use memsweep_core::bytes::Bytes;
use memsweep_os::Os;

/// Both ends of its pipes are ours: it waits for input, and ends when dropped.
fn start(script: &str) -> Process {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    shell.spawn().unwrap()
}

#[test]
fn a_child_and_its_child_are_found_and_one_that_ended_is_not() {
    // What runs in the background reads nothing unless it is told to.
    let mut shell = start("exec 3<&0; cat <&3 & echo $!; wait");
    let mut output = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let grandchild: u32 = line.trim().parse().unwrap();
    // Ended, and not waited for.
    let mut ended = start("exit");
    ended.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    while !std::fs::read_to_string(format!("/proc/{}/status", ended.id()))
        .unwrap()
        .contains("zombie")
    {
        std::thread::yield_now();
    }

    let found = Os::current().children();
    let one = |pid: u32| found.iter().find(|child| child.pid == pid);
    let child = one(shell.id()).unwrap();
    assert!(!child.name.is_empty() && child.resident > Bytes::ZERO, "{child:?}");
    assert!(child.proportional.unwrap() > Bytes::ZERO, "{child:?}");
    assert!(one(grandchild).is_some(), "{found:?}");
    assert!(one(ended.id()).is_none() && one(std::process::id()).is_none(), "{found:?}");

    drop(shell.stdin.take());
    shell.wait().unwrap();
    ended.wait().unwrap();
}
