//! The turns of a node in a loop: one report, and a collector that rests.

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::{Bytes, Change};
use memsweep_core::level::Level;
use memsweep_core::plan::{Plan, plan};
use memsweep_core::reason::{Skip, Why};
use memsweep_core::render;
use memsweep_core::report::Report;
use memsweep_core::turns::Turns;

use crate::build;
use crate::hosts::FakeHost;

const MIB: u64 = 1024 * 1024;

fn collect_plan() -> Plan {
    plan(&build::inventory("absent"), &build::policy(Level::Collect))
}

/// Only the heap gives something back.
fn host(heap: u64) -> FakeHost {
    FakeHost::new(move |world, action| {
        if *action == Action::TrimHeap {
            world.give_back(heap, 0);
        }
        Outcome::done()
    })
}

fn collector(report: &Report) -> &Outcome {
    report.rows.iter().find(|row| row.action == Action::Collect).map(|row| &row.outcome).unwrap()
}

#[test]
fn turns_are_summed_up() {
    let (mut turns, mut host) = (Turns::default(), host(30 * MIB));
    let first = turns.sweep(&collect_plan(), &mut host);
    assert_eq!(first.turns, 1);
    assert!(!render::text(&first).contains("turns"));
    host.world.ram = Some(5 << 30);
    let report = turns.sweep(&collect_plan(), &mut host);
    assert_eq!(report.turns, 2);
    assert_eq!(report.before, first.before);
    assert_eq!(report.freed.process_anonymous, Some(Change(60 << 20)));
    assert_eq!(report.headline.process(), Some(Change(60 << 20)));
    assert_eq!(report.headline.process_after, Some(Bytes((5 << 30) - 30 * MIB)));
    let text = render::text(&report);
    let start =
        "MemSweep collect, 2 turns: private RAM 60.0 MiB given back in all, 5.0 GiB in use now";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("\nthe last turn:\n- "), "{text}");
}

#[test]
fn what_one_turn_does_not_know_the_sum_does_not_either() {
    let (mut turns, mut host) = (Turns::default(), host(30 * MIB));
    turns.sweep(&collect_plan(), &mut host);
    host.world.ram = None;
    let report = turns.sweep(&collect_plan(), &mut host);
    assert_eq!(report.freed.process_anonymous, None);
    assert_eq!(report.headline.process(), None);
    host.world.ram = Some(4 << 30);
    let report = turns.sweep(&collect_plan(), &mut host);
    assert_eq!((report.turns, report.headline.process()), (3, None));
    assert!(render::summary(&report).contains("process memory unknown"));
}

#[test]
fn a_device_that_was_first_used_in_a_later_turn_counts() {
    let (mut turns, mut host) = (Turns::default(), FakeHost::honest());
    host.world.device = None;
    turns.sweep(&collect_plan(), &mut host);
    host.world.device = Some(2 << 30);
    let report = turns.sweep(&collect_plan(), &mut host);
    let device = report.headline.freed.iter().find(|gave| gave.place == "cuda:0").unwrap();
    assert!(device.bytes.0 > 0);
}

#[test]
fn the_collector_rests_until_memory_has_grown() {
    let (mut turns, mut host) = (Turns::default(), host(0));
    assert!(collector(&turns.sweep(&collect_plan(), &mut host)).is_done());
    for grown in [0, 40 * MIB, 24 * MIB] {
        host.world.ram = host.world.ram.map(|bytes| bytes + grown);
        let report = turns.sweep(&collect_plan(), &mut host);
        assert_eq!(*collector(&report), Outcome::Skipped(Why(Skip::NothingLastTurn)));
    }
    // 65 MiB more than when it gave nothing back, though no turn alone took as much.
    host.world.ram = host.world.ram.map(|bytes| bytes + MIB);
    assert!(collector(&turns.sweep(&collect_plan(), &mut host)).is_done());
}

/// What the heap kept when the collector ran goes at the end of each sweep, and the next turn fills it again.
#[test]
fn it_rests_while_the_heap_is_emptied_and_filled_in_each_turn() {
    let (mut turns, mut host) = (Turns::default(), host(100 * MIB));
    let full = host.world.ram;
    assert!(collector(&turns.sweep(&collect_plan(), &mut host)).is_done());
    for _ in 0..3 {
        host.world.ram = full;
        let report = turns.sweep(&collect_plan(), &mut host);
        assert_eq!(*collector(&report), Outcome::Skipped(Why(Skip::NothingLastTurn)));
    }
}

#[test]
fn it_rests_in_another_copy_of_the_node_too() {
    let (mut turns, mut host) = (Turns::default(), host(0));
    turns.sweep(&collect_plan(), &mut host);
    let mut copy = Turns::beside(&turns);
    let report = copy.sweep(&collect_plan(), &mut host);
    assert_eq!(*collector(&report), Outcome::Skipped(Why(Skip::NothingLastTurn)));
    assert_eq!(report.turns, 1, "its report is its own");
    host.world.ram = host.world.ram.map(|bytes| bytes + 65 * MIB);
    assert!(collector(&Turns::beside(&copy).sweep(&collect_plan(), &mut host)).is_done());
}

#[test]
fn the_collector_wakes_when_a_device_fills_up() {
    let (mut turns, mut host) = (Turns::default(), host(0));
    turns.sweep(&collect_plan(), &mut host);
    host.world.device = Some(3 << 30);
    let report = turns.sweep(&collect_plan(), &mut host);
    // The driver's number of all programs is no proof of ours.
    assert!(!collector(&report).is_done());
    host.world.ours_on_device = Some(1 << 30);
    assert!(collector(&turns.sweep(&collect_plan(), &mut host)).is_done(), "it was unknown");
    host.world.ours_on_device = Some(2 << 30);
    assert!(collector(&turns.sweep(&collect_plan(), &mut host)).is_done());
}

#[test]
fn a_collector_that_pays_or_cannot_be_measured_runs_in_every_turn() {
    let mut blind = FakeHost::blind();
    for host in [&mut FakeHost::honest(), &mut blind] {
        let mut turns = Turns::default();
        for _ in 0..3 {
            assert!(collector(&turns.sweep(&collect_plan(), host)).is_done());
        }
    }
}
