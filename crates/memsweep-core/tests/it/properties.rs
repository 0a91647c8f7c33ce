//! What holds for every workflow, host and number.

use std::collections::BTreeSet;

use memsweep_core::action::Action;
use memsweep_core::balance::balance;
use memsweep_core::bytes::{Bytes, Change};
use memsweep_core::inventory::{Execution, Executor, Inventory};
use memsweep_core::level::Level;
use memsweep_core::live::live_set;
use memsweep_core::plan::{Plan, plan};
use memsweep_core::policy::{Goal, ParkSettings, Policy, PolicyError, Settings};
use memsweep_core::reading::Reading;
use memsweep_core::render;
use memsweep_core::report::Report;
use memsweep_core::sweep::sweep;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::build;
use crate::hosts::Scripted;
use crate::oracle::judge;
use crate::strategies::{goals, inventories, outcomes, policies, readings};

fn evicted(plan: &Plan) -> Vec<u32> {
    let steps = plan.steps.iter().map(|step| &step.action);
    steps
        .filter_map(|action| match action {
            Action::Evict { entries } => Some(entries.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

fn unloaded(plan: &Plan) -> Vec<u32> {
    let steps = plan.steps.iter().map(|step| &step.action);
    steps
        .filter_map(|action| match action {
            Action::Unload { model, .. } => Some(*model),
            _ => None,
        })
        .collect()
}

fn set(numbers: Vec<u32>) -> BTreeSet<u32> {
    numbers.into_iter().collect()
}

fn execution(inventory: &Inventory) -> &Execution {
    match &inventory.executor {
        Executor::Identified(execution) => execution,
        _ => panic!("the strategy identifies the executor"),
    }
}

fn slots_storages(execution: &Execution, entry: u32) -> BTreeSet<u32> {
    let slots = execution.entries[entry as usize].slots.iter().flatten();
    slots.flat_map(|slot| slot.storages.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_agrees_with_the_oracle(inventory in inventories()) {
        let found = plan(&inventory, &build::policy(Level::Evict));
        let expected = judge(&inventory);
        prop_assert_eq!(set(evicted(&found)), expected.evicted);
        prop_assert_eq!(set(unloaded(&found)), expected.unloaded);
    }

    #[test]
    fn nothing_connected_or_live_is_released(inventory in inventories()) {
        let found = plan(&inventory, &build::policy(Level::Evict));
        let execution = execution(&inventory);
        let live = live_set(execution);
        for model in unloaded(&found) {
            prop_assert!(!inventory.connected.models.contains(&model));
            prop_assert!(!live.models.contains_key(&model));
        }
        let protected = judge(&inventory).protected;
        prop_assert!(live.storages.is_subset(&protected));
        let gone = evicted(&found);
        for entry in &gone {
            prop_assert!(!live.entries.contains_key(entry));
            prop_assert!(execution.entries[*entry as usize].slots.is_some());
            prop_assert!(!execution.entries[*entry as usize].has_ui);
        }
        // Of what goes, only memory that nobody else was found to hold is promised.
        let promised: BTreeSet<u32> = gone
            .iter()
            .flat_map(|entry| slots_storages(execution, *entry))
            .filter(|storage| !protected.contains(storage))
            .collect();
        let most: u64 = promised
            .iter()
            .filter_map(|storage| inventory.storages.get(*storage as usize))
            .map(|fact| fact.bytes.0)
            .sum();
        for step in &found.steps {
            if matches!(step.action, Action::Evict { .. }) {
                prop_assert!(step.estimated.is_some_and(|bytes| bytes.0 <= most));
            }
        }
    }

    #[test]
    fn what_is_protected_is_neither_parked_nor_destroyed(inventory in inventories()) {
        let found = plan(&inventory, &build::policy(Level::Destroy));
        let expected = judge(&inventory);
        let gone = evicted(&found);
        let (mut parks, mut destroys) = (0, 0);
        for step in &found.steps {
            match &step.action {
                Action::Park { keep, .. } => {
                    parks += 1;
                    prop_assert_eq!(&set(keep.clone()), &expected.protected);
                }
                Action::Destroy { keep } => {
                    destroys += 1;
                    let keep = set(keep.clone());
                    prop_assert!(keep.is_superset(&expected.protected));
                    let execution = execution(&inventory);
                    for entry in (0_u32..).take(execution.entries.len()) {
                        prop_assert!(
                            gone.contains(&entry)
                                || slots_storages(execution, entry).is_subset(&keep),
                            "entry {} stays and would serve what is gone", entry
                        );
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(parks, usize::from(!inventory.is_targeted()));
        prop_assert!(destroys <= parks);
    }

    #[test]
    fn everything_is_released_or_kept_exactly_once(inventory in inventories()) {
        prop_assume!(!inventory.is_targeted());
        let found = plan(&inventory, &build::policy(Level::Evict));
        for (number, entry) in execution(&inventory).entries.iter().enumerate() {
            let gone = evicted(&found).iter().filter(|gone| **gone as usize == number).count();
            let kept = found.kept.iter().filter(|kept| kept.what == entry.name).count();
            prop_assert_eq!(gone + kept, 1, "{}", &entry.name);
        }
        for (number, model) in inventory.models.iter().enumerate() {
            let gone = unloaded(&found).iter().filter(|gone| **gone as usize == number).count();
            let what = memsweep_core::names::model_on_its_device(model);
            let kept = found.kept.iter().filter(|kept| kept.what == what).count();
            prop_assert_eq!(gone + kept, usize::from(model.loaded), "{}", &model.name);
        }
    }

    #[test]
    fn a_plan_follows_from_its_input_alone(inventory in inventories(), policy in policies()) {
        let text = |plan: &Plan| serde_json::to_string(plan).unwrap();
        let (first, second) = (plan(&inventory, &policy), plan(&inventory.clone(), &policy));
        prop_assert_eq!(text(&first), text(&second));
        let deeper = |action: &Action| match action {
            Action::Collect => Level::Collect,
            Action::Unload { .. } => Level::Unload,
            Action::Evict { .. } | Action::DropFileCache { .. } => Level::Evict,
            Action::Park { .. } => Level::Park,
            Action::Destroy { .. } => Level::Destroy,
            _ => Level::Trim,
        };
        for step in &first.steps {
            prop_assert!(deeper(&step.action) <= policy.level);
            prop_assert!(policy.system_wide || step.action != Action::SystemWide);
        }
    }

    #[test]
    fn order_does_not_matter((inventory, orders) in inventories().prop_flat_map(|inventory| {
        let shuffled = |length: usize| Just((0..length).collect::<Vec<_>>()).prop_shuffle();
        let orders = (
            shuffled(inventory.storages.len()),
            shuffled(inventory.models.len()),
            shuffled(execution(&inventory).entries.len()),
            shuffled(execution(&inventory).nodes.len()),
        );
        (Just(inventory), orders)
    })) {
        let policy = build::policy(Level::Evict);
        let before = plan(&inventory, &policy);
        let after = plan(&reordered(&inventory, &orders), &policy);
        let back = |numbers: Vec<u32>, order: &[usize]| -> BTreeSet<usize> {
            numbers.into_iter().map(|number| order[number as usize]).collect()
        };
        let same = |numbers: Vec<u32>| numbers.into_iter().map(|number| number as usize).collect();
        prop_assert_eq!(back(evicted(&after), &orders.2), same(evicted(&before)));
        prop_assert_eq!(back(unloaded(&after), &orders.1), same(unloaded(&before)));
        let promise = |plan: &Plan| -> Option<Bytes> {
            plan.steps.iter().map(|step| step.estimated).filter(Option::is_some).sum()
        };
        prop_assert_eq!(promise(&after), promise(&before));
    }

    #[test]
    fn json_keeps_every_value(
        inventory in inventories(),
        policy in policies(),
        numbers in vec(readings(), 1..6),
        answers in vec(outcomes(), 0..12),
    ) {
        fn copy<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
            serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
        }
        prop_assert_eq!(&copy(&inventory), &inventory);
        prop_assert_eq!(&copy(&numbers), &numbers);
        let plan = plan(&inventory, &policy);
        prop_assert_eq!(&copy(&plan), &plan);
        let report = sweep(&plan, &mut Scripted::new(numbers, answers));
        prop_assert_eq!(&copy(&report), &report);
    }

    #[test]
    fn any_sweep_reports_one_row_per_step_and_renders(
        inventory in inventories(),
        policy in policies(),
        numbers in vec(readings(), 0..6),
        answers in vec(outcomes(), 0..12),
    ) {
        let plan = plan(&inventory, &policy);
        let report: Report = sweep(&plan, &mut Scripted::new(numbers, answers));
        prop_assert_eq!(report.rows.len(), plan.steps.len());
        prop_assert_eq!(report.kept.len(), plan.kept.len());
        let text = render::text(&report);
        prop_assert!(text.starts_with("MemSweep "));
        prop_assert!(!text.contains("gave back -") && !text.contains(": ,"), "{}", text);
        prop_assert!(text.lines().all(|line| !line.ends_with([' ', ':']) || ["kept:", "what holds the rest:"].contains(&line)), "{}", text);
        prop_assert!(text.is_ascii());
    }

    #[test]
    fn an_unknown_number_never_meets_a_goal(goal in goals(), reading in readings()) {
        let blank = Reading { devices: reading.devices.clone(), ..Reading::default() };
        let known = match &goal {
            Goal::RamAvailable(_) => reading.ram_available(),
            Goal::ProcessAnonymous(_) => reading.process.anonymous,
            Goal::DeviceFree { device, .. } => {
                reading.device(device).and_then(|row| Some(Bytes(row.total?.0.saturating_sub(row.driver.used?.0))))
            }
        };
        prop_assert_eq!(goal.is_met(&reading).is_some(), known.is_some());
        if !matches!(goal, Goal::DeviceFree { .. }) {
            prop_assert_eq!(goal.is_met(&blank), None);
        }
        if goal.is_met(&blank).is_none() {
            let policy = Policy { goal: Some(goal), ..build::policy(Level::Trim) };
            let plan = plan(&Inventory::default(), &policy);
            let report = sweep(&plan, &mut Scripted::new(vec![blank], Vec::new()));
            prop_assert_eq!(report.goal_met, None);
            let ran = report.rows.iter().filter(|row| row.seconds.is_some()).count();
            prop_assert_eq!(ran, 0, "a reading without a clock gives no duration");
            prop_assert!(report.rows.iter().all(|row| row.verdict != memsweep_core::report::Verdict::NotRun));
        }
    }

    #[test]
    fn a_balance_sheet_adds_up_or_says_that_it_does_not(reading in readings()) {
        for sheet in balance(&reading) {
            let Some((rest, known)) = sheet.parts.split_last() else { continue };
            let sum = known
                .iter()
                .map(|part| part.bytes.map(|bytes| u128::from(bytes.0)))
                .sum::<Option<u128>>();
            let left = match (sheet.total, sum) {
                (Some(total), Some(sum)) => u128::from(total.0).checked_sub(sum),
                _ => None,
            };
            prop_assert_eq!(rest.bytes.map(|bytes| u128::from(bytes.0)), left);
        }
        for (sheet, device) in balance(&reading).iter().skip(1).zip(&reading.devices) {
            // Two parts of one pool never come to more than the pool.
            if let (Some(held), Some(tensors), Some(free)) =
                (device.torch.reserved, sheet.parts[0].bytes, sheet.parts[1].bytes)
            {
                prop_assert_eq!(u128::from(held.0), u128::from(tensors.0) + u128::from(free.0));
            }
        }
    }

    #[test]
    fn bytes_saturate_instead_of_wrapping(a in any::<u64>(), b in any::<u64>()) {
        let wide = u128::from(a) + u128::from(b);
        prop_assert_eq!(u128::from(Bytes(a).plus(Bytes(b)).0), wide.min(u128::from(u64::MAX)));
        prop_assert_eq!(Bytes(a).plus(Bytes(b)), [Bytes(a), Bytes(b)].into_iter().sum::<Bytes>());
        let difference = i128::from(a) - i128::from(b);
        let Change(change) = Bytes(a).fallen_to(Bytes(b));
        prop_assert_eq!(
            i128::from(change),
            difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX))
        );
    }

    #[test]
    fn a_shown_size_is_right_to_one_decimal(bytes in any::<u64>().prop_flat_map(|top| 0..=top)) {
        let text = Bytes(bytes).to_string();
        let (number, unit) = text.split_once(' ').unwrap();
        let power = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].iter().position(|one| *one == unit);
        let scale = 1024_f64.powi(i32::try_from(power.unwrap()).unwrap());
        let shown: f64 = number.parse().unwrap();
        prop_assert!((shown - bytes as f64 / scale).abs() <= 0.0501, "{} for {}", text, bytes);
        prop_assert!(shown < 1024.0 || unit == "PiB", "{}", text);
    }

    #[test]
    fn settings_become_a_policy_or_say_why_not(
        name in prop_oneof![
            3 => prop::sample::select(Level::ALL.to_vec()).prop_map(|level| level.name().to_owned()),
            1 => "[a-zA-Z ]{0,8}",
        ],
        goal in prop::option::of(goals()),
        system_wide in any::<bool>(),
        dry_run in any::<bool>(),
        off in any::<bool>(),
    ) {
        let settings =
            Settings {
                level: Some(name.clone()),
                goal: goal.clone(),
                system_wide,
                dry_run,
                park: ParkSettings { off, ..ParkSettings::default() },
            };
        match (Policy::try_from(settings), Level::ALL.iter().find(|level| level.name() == name)) {
            (Ok(policy), Some(level)) => {
                prop_assert_eq!(policy.requested, *level);
                let goes = if off && *level == Level::Park { Level::Evict } else { *level };
                prop_assert_eq!(policy.level, goes);
                prop_assert_eq!(policy.park.is_none(), off);
                prop_assert_eq!(policy.goal, goal);
                prop_assert_eq!((policy.system_wide, policy.dry_run), (system_wide, dry_run));
            }
            (Err(PolicyError::Level(error)), None) => {
                let shown = error.to_string();
                prop_assert!(shown.contains(&name) && shown.contains("`evict`"));
            }
            (result, level) => prop_assert!(false, "{:?} for {:?}", result, level),
        }
    }
}

type Orders = (Vec<usize>, Vec<usize>, Vec<usize>, Vec<usize>);

/// The same workflow in another order: `order[new]` is the old number.
fn reordered(inventory: &Inventory, orders: &Orders) -> Inventory {
    fn pick<T: Clone>(all: &[T], order: &[usize]) -> Vec<T> {
        order.iter().map(|old| all[*old].clone()).collect()
    }
    fn renumber(numbers: &mut [u32], order: &[usize]) {
        for number in numbers {
            // What points nowhere keeps pointing nowhere.
            if let Some(new) = order.iter().position(|old| *old == *number as usize) {
                *number = u32::try_from(new).unwrap();
            }
        }
    }
    let (storages, models, entries, nodes) = orders;
    let mut told = inventory.clone();
    told.storages = pick(&told.storages, storages);
    told.models = pick(&told.models, models);
    renumber(&mut told.targets, models);
    renumber(&mut told.connected.storages, storages);
    renumber(&mut told.connected.models, models);
    if let Executor::Identified(execution) = &mut told.executor {
        execution.entries = pick(&execution.entries, entries);
        execution.nodes = pick(&execution.nodes, nodes);
        for slot in execution.entries.iter_mut().flat_map(|entry| entry.slots.iter_mut().flatten())
        {
            renumber(&mut slot.storages, storages);
            renumber(&mut slot.models, models);
        }
        for given in &mut execution.loop_results {
            renumber(&mut given.storages, storages);
            renumber(&mut given.models, models);
        }
        for entry in execution.nodes.iter_mut().filter_map(|node| node.entry.as_mut()) {
            renumber(std::slice::from_mut(entry), entries);
        }
    }
    told
}

#[test]
fn absent_settings_mean_collect_and_unknown_ones_are_refused() {
    let policy = Policy::try_from(serde_json::from_str::<Settings>("{}").unwrap()).unwrap();
    assert_eq!(policy, build::policy(Level::Collect));
    assert!(serde_json::from_str::<Settings>(r#"{"levle": "evict"}"#).is_err());
    assert!(serde_json::from_str::<Settings>(r#"{"goal": {"ram_availible": 1}}"#).is_err());
    let goal = Some(Goal::DeviceFree { device: String::new(), bytes: Bytes(1) });
    let refused = Policy::try_from(Settings { goal, ..Settings::default() });
    assert_eq!(refused, Err(PolicyError::GoalWithoutDevice));
}
