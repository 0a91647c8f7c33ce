//! The loop against hosts of every kind: what it carries out, and what it may claim about it.

use memsweep_core::action::{Action, Outcome, Place};
use memsweep_core::bytes::{Bytes, Change};
use memsweep_core::level::Level;
use memsweep_core::plan::{Plan, plan};
use memsweep_core::policy::{Goal, Policy};
use memsweep_core::reading::{ComfyView, DeviceMemory, DriverView, Reading, TorchView};
use memsweep_core::reason::{Nothing, Skip};
use memsweep_core::render;
use memsweep_core::report::{Freed, Report, Verdict};
use memsweep_core::sweep::{DryRun, sweep};

use crate::build;
use crate::hosts::FakeHost;

const MIB: i64 = 1 << 20;

/// Evict, collect, sync, unload, collect, device, host, files, heap, system: every kind of action.
fn full_plan(goal: Option<Goal>, dry_run: bool) -> Plan {
    let inventory = build::inventory(
        "storages 1000
        model UNET cuda:0 500
        entry spent (s0)
        file /models/a.safetensors
        node me pending",
    );
    let policy = Policy { goal, dry_run, system_wide: true, ..build::policy(Level::Evict) };
    plan(&inventory, &policy)
}

fn plain_plan() -> Plan {
    full_plan(None, false)
}

fn done(claimed: Option<u64>) -> Outcome {
    Outcome::Done { claimed: claimed.map(Bytes), detail: None }
}

fn actions(plan: &Plan) -> Vec<Action> {
    plan.steps.iter().map(|step| step.action.clone()).collect()
}

/// The verdict of the row with this action.
fn verdict(report: &Report, action: &Action) -> Verdict {
    report.rows.iter().find(|row| row.action == *action).map(|row| row.verdict).unwrap()
}

fn outside(action: &Action) -> bool {
    matches!(action, Action::DropFileCache { .. } | Action::SystemWide)
}

#[test]
fn an_honest_host_is_confirmed_row_by_row() {
    let mut host = FakeHost::honest();
    let plan = plain_plan();
    let report = sweep(&plan, &mut host);
    assert_eq!(host.world.released, actions(&plan));
    assert_eq!(report.freed.process_anonymous, Some(Change(900 * MIB)));
    assert_eq!(report.freed.devices[0].driver.used, Some(Change(900 * MIB)));
    assert_eq!(report.freed.devices[0].torch.reserved, None, "nobody read it");
    for row in &report.rows {
        assert_eq!(row.measured.process_resident, Some(Change(100 * MIB)));
        assert_eq!(row.seconds, Some(0.5));
        let expected =
            if outside(&row.action) { Verdict::OutsideProcess } else { Verdict::Confirmed };
        assert_eq!(row.verdict, expected, "{:?}", row.action);
    }
    assert_eq!((report.goal_met, report.cancelled), (None, false));
}

#[test]
fn a_lying_host_is_caught() {
    let mut host = FakeHost::new(|_, _| done(Some(3 << 30)));
    let report = sweep(&plain_plan(), &mut host);
    for row in report.rows.iter().filter(|row| !outside(&row.action)) {
        assert_eq!(row.verdict, Verdict::ClaimNotSeen, "{:?}", row.action);
        assert_eq!(row.measured.process_anonymous, Some(Change(0)));
    }
    assert_eq!(report.freed.process_anonymous, Some(Change(0)));
    let text = render::text(&report);
    assert!(text.contains("device cache: gave back nothing, 3.0 GiB claimed, not seen"), "{text}");
    assert!(text.starts_with("MemSweep evict: private RAM 4.0 GiB -> 4.0 GiB (0 B given back)"));
}

#[test]
fn a_claim_is_believed_once_half_of_it_is_seen() {
    for (given, expected) in [
        (0, Verdict::ClaimNotSeen),
        (49 << 20, Verdict::ClaimNotSeen),
        (50 << 20, Verdict::Confirmed),
        (200 << 20, Verdict::Confirmed),
    ] {
        let mut host = FakeHost::new(move |world, _| {
            world.give_back(given, given);
            done(Some(100 << 20))
        });
        let report = sweep(&plain_plan(), &mut host);
        assert_eq!(report.rows[0].verdict, expected, "{given}");
    }
}

#[test]
fn a_fall_elsewhere_does_not_prove_a_claim() {
    // RAM falls for another reason; the device does not move.
    let mut host = FakeHost::new(|world, _| {
        world.give_back(200 << 20, 0);
        done(Some(100 << 20))
    });
    let report = sweep(&plain_plan(), &mut host);
    assert_eq!(verdict(&report, &Action::EmptyDeviceCache), Verdict::ClaimNotSeen);
    assert_eq!(verdict(&report, &Action::TrimHeap), Verdict::Confirmed);
    // And the other way round.
    let mut host = FakeHost::new(|world, _| {
        world.give_back(0, 100 << 20);
        done(Some(100 << 20))
    });
    let report = sweep(&plain_plan(), &mut host);
    assert_eq!(verdict(&report, &Action::EmptyDeviceCache), Verdict::Confirmed);
    assert_eq!(verdict(&report, &Action::TrimHeap), Verdict::ClaimNotSeen);
}

#[test]
fn a_device_nobody_can_read_leaves_its_cache_unmeasured() {
    let mut host = FakeHost::honest();
    host.world.device = None;
    let report = sweep(&plain_plan(), &mut host);
    assert_eq!(verdict(&report, &Action::EmptyDeviceCache), Verdict::Unmeasured);
    assert_eq!(verdict(&report, &Action::TrimHeap), Verdict::Confirmed);
}

#[test]
fn growth_is_reported_and_never_confirmed() {
    let mut host = FakeHost::new(|world, _| {
        world.ram = world.ram.map(|bytes| bytes + (10 << 20));
        Outcome::done()
    });
    let report = sweep(&plain_plan(), &mut host);
    assert!(report.freed.process_anonymous.unwrap().0 < 0);
    assert!(report.rows.iter().all(|row| row.verdict != Verdict::Confirmed));
    assert!(render::summary(&report).contains("grew by 90.0 MiB"));
}

#[test]
fn the_noise_of_a_reading_is_no_success() {
    for (fall, expected) in [(64 << 10, Verdict::NothingSeen), (65 << 10, Verdict::Confirmed)] {
        let mut host = FakeHost::new(move |world, _| {
            world.give_back(fall, 0);
            Outcome::done()
        });
        assert_eq!(sweep(&plain_plan(), &mut host).rows[0].verdict, expected, "{fall}");
    }
}

#[test]
fn a_blind_host_gives_unknown_and_never_zero() {
    let mut host = FakeHost::blind();
    let report = sweep(&plain_plan(), &mut host);
    assert_eq!(report.freed.process_anonymous, None);
    assert_eq!(report.freed.process_resident, None);
    assert!(report.freed.devices.is_empty());
    for row in &report.rows {
        assert_eq!(row.measured.process_anonymous, None);
        assert_eq!(row.seconds, None);
        let expected = match row.action.acts_on() {
            [Place::Machine] => Verdict::OutsideProcess,
            // Waiting acts on nothing that would have to be measured.
            [] if row.outcome.claimed().is_none() => Verdict::NothingSeen,
            [] => Verdict::ClaimNotSeen,
            _ => Verdict::Unmeasured,
        };
        assert_eq!(row.verdict, expected, "{:?}", row.action);
    }
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["freed"]["process_anonymous"].is_null());
    let text = render::text(&report);
    assert!(text.contains("process memory unknown"), "{text}");
    assert!(text.contains("done, not measured, 100.0 MiB claimed"), "{text}");
    assert!(!text.contains(" 0 B"), "{text}");
}

#[test]
fn a_number_that_disappears_midway_is_unknown() {
    let mut host = FakeHost::new(|world, action| {
        if *action == Action::TrimHeap {
            world.ram = None;
        }
        Outcome::done()
    });
    let report = sweep(&plain_plan(), &mut host);
    assert_eq!(report.rows[0].measured.process_anonymous, Some(Change(0)));
    assert_eq!(verdict(&report, &Action::TrimHeap), Verdict::Unmeasured);
    assert_eq!(report.freed.process_anonymous, None);
}

#[test]
fn failures_are_rows_and_the_other_steps_run() {
    let plan = plain_plan();
    for every in 1..=3 {
        let mut calls = 0;
        let mut host = FakeHost::new(move |world, _| {
            calls += 1;
            if calls % every == 0 {
                return Outcome::Failed { error: "no permission".to_owned() };
            }
            world.give_back(1 << 20, 0);
            Outcome::done()
        });
        let report = sweep(&plan, &mut host);
        let released = &host.world.released;
        let failed = report.rows.iter().filter(|row| row.verdict == Verdict::Failed).count();
        assert_eq!(failed, released.len() / every);
        assert_eq!(report.rows.len(), plan.steps.len());
        assert!(released.contains(&Action::SystemWide), "the last step runs too");
        assert!(render::text(&report).contains("failed: no permission"));
    }
    let mut host = FakeHost::new(|_, action| match action {
        Action::TrimHeap => Outcome::Failed { error: "no permission".to_owned() },
        _ => Outcome::done(),
    });
    assert!(render::summary(&sweep(&plan, &mut host)).contains("1 step failed;"));
}

#[test]
fn a_cancel_ends_the_sweep_at_any_step() {
    let plan = plain_plan();
    for at in 0..plan.steps.len() {
        let cancelled = plan.steps[at].action.clone();
        let before = actions(&plan)[..at].iter().filter(|one| **one == cancelled).count();
        let (mut seen, target) = (0, cancelled.clone());
        let mut host = FakeHost::new(move |world, action| {
            seen += usize::from(*action == target);
            if *action == target && seen > before {
                return Outcome::Cancelled;
            }
            world.give_back(1 << 20, 0);
            done(Some(1 << 20))
        });
        let report = sweep(&plan, &mut host);
        assert!(report.cancelled);
        assert_eq!(host.world.released, actions(&plan)[..=at]);
        assert_eq!(report.rows.len(), plan.steps.len());
        assert_eq!(report.rows[at].outcome, Outcome::Cancelled);
        for row in &report.rows[at..] {
            assert_eq!(row.verdict, Verdict::NotRun);
        }
        for row in &report.rows[at + 1..] {
            assert_eq!(row.outcome, Outcome::skipped(Skip::SweepEnded));
            assert_eq!(row.measured.process_anonymous, None);
        }
        assert!(render::summary(&report).contains("; cancelled"));
    }
}

#[test]
fn a_goal_stops_the_sweep_as_soon_as_it_is_met() {
    let goal = |mib: u64| Some(Goal::ProcessAnonymous(Bytes::from_mib(mib)));
    for (limit, ran) in [(4096, 0), (4000, 1), (3700, 4)] {
        let mut host = FakeHost::honest();
        let plan = full_plan(goal(limit), false);
        let report = sweep(&plan, &mut host);
        assert_eq!(host.world.released.len(), ran, "{limit}");
        assert_eq!(report.goal_met, Some(true));
        assert_eq!(report.rows.len(), plan.steps.len());
        let row = &report.rows[ran];
        assert_eq!(
            (&row.outcome, row.verdict),
            (&Outcome::skipped(Skip::GoalMet), Verdict::NotRun)
        );
    }
}

#[test]
fn a_goal_out_of_reach_is_not_met_after_every_step() {
    let mut host = FakeHost::honest();
    let plan = full_plan(Some(Goal::ProcessAnonymous(Bytes(1))), false);
    let report = sweep(&plan, &mut host);
    assert_eq!(report.goal_met, Some(false));
    assert!(host.world.released.contains(&Action::SystemWide));
}

#[test]
fn a_goal_nobody_can_read_neither_stops_the_sweep_nor_counts_as_met() {
    for goal in [
        Goal::RamAvailable(Bytes::ZERO),
        Goal::DeviceFree { device: "cuda:7".to_owned(), bytes: Bytes::ZERO },
    ] {
        let mut host = FakeHost::honest();
        let report = sweep(&full_plan(Some(goal), false), &mut host);
        assert_eq!(report.goal_met, None);
        assert!(host.world.released.contains(&Action::SystemWide));
    }
    let mut host = FakeHost::honest();
    let goal = Goal::DeviceFree { device: "cuda:0".to_owned(), bytes: Bytes::from_mib(6144) };
    let report = sweep(&full_plan(Some(goal), false), &mut host);
    assert_eq!((report.goal_met, host.world.released.len()), (Some(true), 0), "it held before");
}

#[test]
fn a_dry_run_walks_the_same_plan_and_releases_nothing() {
    let (wet, dry) = (full_plan(None, false), full_plan(None, true));
    assert_eq!(wet.steps, dry.steps);
    // The policy alone is enough: no caller can forget the wrapper.
    let mut host = FakeHost::honest();
    let report = sweep(&dry, &mut host);
    assert!(host.world.released.is_empty());
    assert!(report.dry_run);
    assert_eq!(report.rows.len(), dry.steps.len());
    for (row, step) in report.rows.iter().zip(&dry.steps) {
        assert_eq!((&row.action, row.estimated), (&step.action, step.estimated));
        assert_eq!(row.outcome, Outcome::skipped(Skip::DryRun));
        assert_eq!(row.verdict, Verdict::NotRun);
    }
    assert_eq!(report.freed.process_anonymous, Some(Change(0)));
    assert!(render::summary(&report).starts_with("MemSweep evict (dry run): "));
    // And so is the wrapper.
    let mut host = FakeHost::honest();
    sweep(&wet, &mut DryRun(&mut host));
    assert!(host.world.released.is_empty());
}

#[test]
fn the_collector_runs_again_only_after_something_was_released() {
    let nothing = || Outcome::nothing(Nothing::EntriesGone);
    let failed = || Outcome::Failed { error: "busy".to_owned() };
    type Answer = fn() -> Outcome;
    let rows: [(Answer, Answer, usize); 4] = [
        (Outcome::done, Outcome::done, 2),
        // Evicting comes before the first collection, so only unloading counts after it.
        (Outcome::done, nothing, 1),
        (Outcome::done, failed, 1),
        (nothing, Outcome::done, 2),
    ];
    for (evict, unload, expected) in rows {
        let mut host = FakeHost::new(move |_, action| match action {
            Action::Evict { .. } => evict(),
            Action::Unload { .. } => unload(),
            _ => Outcome::done(),
        });
        let report = sweep(&plain_plan(), &mut host);
        let runs = host.world.released.iter().filter(|one| **one == Action::Collect).count();
        assert_eq!(runs, expected);
        let skipped = report.rows.iter().rfind(|row| row.action == Action::Collect);
        assert_eq!(skipped.unwrap().verdict == Verdict::NotRun, expected == 1);
    }
    // A collection that failed has found nothing: it is tried again.
    let mut host = FakeHost::new(move |_, action| match action {
        Action::Collect => failed(),
        _ => nothing(),
    });
    sweep(&plain_plan(), &mut host);
    let runs = host.world.released.iter().filter(|one| **one == Action::Collect).count();
    assert_eq!(runs, 2);
}

#[test]
fn every_step_is_measured_on_its_own() {
    let mut host = FakeHost::honest();
    let plan = plain_plan();
    let report = sweep(&plan, &mut host);
    assert_eq!(host.reads, plan.steps.len() + 1, "one reading before, one after each step");
    let sum: i64 =
        report.rows.iter().filter_map(|row| row.measured.process_anonymous).map(|c| c.0).sum();
    assert_eq!(Some(Change(sum)), report.freed.process_anonymous);
}

fn used_by_all(bytes: u64) -> DriverView<Bytes> {
    DriverView { used: Some(Bytes(bytes)), ..DriverView::default() }
}

#[test]
fn what_other_programs_do_on_a_card_is_not_ours() {
    let row = |id: &str, used, reserved| DeviceMemory {
        id: id.to_owned(),
        driver: used_by_all(used),
        torch: TorchView { allocated: None, reserved },
        ..DeviceMemory::default()
    };
    let reading = |devices| Reading { devices, ..Reading::default() };
    let before = reading(vec![row("cuda:0", 900, Some(Bytes(300))), row("nvml:1", 800, None)]);
    let after = reading(vec![row("cuda:0", 100, Some(Bytes(250))), row("nvml:1", 0, None)]);
    let freed = Freed::between(&before, &after);
    assert_eq!(freed.devices.len(), 1, "a card that we do not use");
    assert_eq!(freed.devices[0].driver.used, Some(Change(800)));
    assert_eq!(freed.devices[0].ours, Some(Change(50)));
}

#[test]
fn pages_that_all_went_count_as_given_back() {
    let row = |paged| DeviceMemory {
        id: "cuda:0".to_owned(),
        driver: used_by_all(900),
        torch: TorchView { allocated: Some(Bytes(40)), reserved: Some(Bytes(50)) },
        comfyui: ComfyView { paged, models: None },
        ..DeviceMemory::default()
    };
    let ours = |then, now| {
        let reading = |paged| Reading { devices: vec![row(paged)], ..Reading::default() };
        Freed::between(&reading(then), &reading(now)).devices[0].ours
    };
    assert_eq!(ours(Some(Bytes(600)), Some(Bytes(0))), Some(Change(600)));
    assert_eq!(ours(None, None), Some(Change(0)), "a program that pages nothing by itself");
    // Known to one reading only: torch's part alone would say that nothing was given back.
    let used = |paged, used| DeviceMemory { driver: used_by_all(used), ..row(paged) };
    let before = Reading { devices: vec![used(Some(Bytes(600)), 900)], ..Reading::default() };
    let after = Reading { devices: vec![used(None, 300)], ..Reading::default() };
    assert_eq!(Freed::between(&before, &after).devices[0].ours, Some(Change(600)));
}

#[test]
fn a_device_that_one_reading_lacks_is_unknown_and_not_left_out() {
    let reading = |devices| Reading { devices, ..Reading::default() };
    let row = |id: &str, used| DeviceMemory {
        id: id.to_owned(),
        pci: Some("0000:01:00.0".to_owned()),
        driver: used_by_all(used),
        ..DeviceMemory::default()
    };
    let gone = Freed::between(&reading(vec![row("cuda:0", 900)]), &reading(vec![]));
    assert_eq!(gone.devices.len(), 1);
    assert_eq!((gone.devices[0].ours, gone.devices[0].driver.used), (None, None));
    // Torch did not answer the second time, and the driver's row has the driver's name.
    let renamed =
        Freed::between(&reading(vec![row("cuda:0", 900)]), &reading(vec![row("nvml:0", 200)]));
    assert_eq!(renamed.devices.len(), 1);
    assert_eq!(renamed.devices[0].driver.used, Some(Change(700)));
}
