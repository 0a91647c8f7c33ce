//! The machine the tests run on: only what is true of every machine is asserted.
#![cfg(target_os = "linux")]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_os::{Detail, Os, Roots};

#[test]
fn a_reading_is_full_where_linux_always_answers() {
    let os = Os::current();
    let reading = os.read();
    let process = &reading.process;
    assert!(process.resident > Some(Bytes::ZERO));
    assert!(process.anonymous > Some(Bytes::ZERO));
    assert!(process.resident >= process.anonymous);
    assert!(reading.machine.total >= process.resident);
    assert_eq!(process.commit, None);
    assert_eq!(process.footprint, None);
    assert!(os.read().seconds >= reading.seconds);
}

#[test]
fn what_was_allocated_shows_up() {
    const SIZE: usize = 64 * 1024 * 1024;
    let os = Os::current();
    let before = os.read().process.anonymous.unwrap();
    let block = vec![1u8; SIZE];
    let after = os.read().process.anonymous.unwrap();
    assert!(after.0 >= before.0 + SIZE as u64 / 2, "{before} {after}");
    drop(block);
}

#[test]
#[cfg(target_env = "gnu")]
fn the_heaps_slack_belongs_to_the_live_process_only() {
    assert!(Os::current().read().process.heap_slack.is_some());
    assert_eq!(Os::at(Roots::default()).read().process.heap_slack, None);
}

#[test]
fn a_quick_reading_leaves_out_the_heap_and_knows_that_nothing_was_parked() {
    let mut reader = Os::current().reader();
    let quick = reader.read(Detail::Quick);
    assert_eq!((quick.process.heap_slack, quick.process.parked), (None, Some(Bytes::ZERO)));
    assert!(quick.process.resident > Some(Bytes::ZERO));
    let full = reader.read(Detail::Full);
    assert_eq!(quick.machine.total, full.machine.total);
    assert_eq!(quick.machine.cgroup_limit, full.machine.cgroup_limit);
}

#[test]
fn what_only_windows_can_do_is_unsupported() {
    assert!(matches!(Os::current().empty_working_set(), Outcome::Unsupported { .. }));
}

#[test]
fn the_system_caches_of_a_fixture_without_the_file_are_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots { proc: folder.path().to_owned(), sys: folder.path().to_owned() };
    let outcome = Os::at(roots).drop_system_caches();
    let Outcome::Unsupported(why) = outcome else { panic!("{outcome:?}") };
    assert!(why.to_string().contains("root"), "{why}");
}
