//! One number for each place, from whatever numbers there are.

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::{Bytes, Change};
use memsweep_core::destroy::Destroyed;
use memsweep_core::headline::{Gave, Headline, Measure, PROCESS};
use memsweep_core::level::Level;
use memsweep_core::park::{ParkLimits, Parked};
use memsweep_core::plan::{Step, plan};
use memsweep_core::reading::{DeviceMemory, DriverView, ProcessMemory, Reading, TorchView};
use memsweep_core::reason::Release;
use memsweep_core::render;
use memsweep_core::report::{Freed, Report, Row, Verdict};

use crate::build;

/// A reading with these numbers, in MiB: charged, private, resident.
fn process(charged: Option<u64>, private: Option<u64>, resident: Option<u64>) -> Reading {
    let mib = |number: Option<u64>| number.map(Bytes::from_mib);
    Reading {
        process: ProcessMemory {
            commit: mib(charged),
            anonymous: mib(private),
            resident: mib(resident),
            ..ProcessMemory::default()
        },
        ..Reading::default()
    }
}

/// A reading of one device, in MiB: what the driver says of us, torch's cache, its tensors, all
/// programs.
fn device(numbers: [Option<u64>; 4]) -> Reading {
    let [process, reserved, allocated, used] = numbers.map(|number| number.map(Bytes::from_mib));
    let row = DeviceMemory {
        id: "cuda:0".to_owned(),
        driver: DriverView { used, process, others: None },
        torch: TorchView { allocated, reserved },
        ..DeviceMemory::default()
    };
    Reading { devices: vec![row], ..Reading::default() }
}

fn gave(place: &str, measure: Measure, mib: i64) -> Gave {
    Gave { place: place.to_owned(), measure, bytes: Change(mib << 20) }
}

fn told(before: &Reading, after: &Reading) -> Headline {
    Headline::new(before, after, &Freed::between(before, after), &[])
}

#[test]
fn the_best_number_of_a_process_stands_for_it() {
    for (before, after, expected) in [
        (process(Some(9), Some(8), Some(7)), process(Some(5), Some(1), Some(1)), Measure::Charged),
        (process(None, Some(9), Some(20)), process(None, Some(5), Some(1)), Measure::Private),
        (process(None, None, Some(9)), process(None, None, Some(5)), Measure::Resident),
        // A number that one side lacks does not count.
        (process(Some(3), Some(9), Some(20)), process(None, Some(5), Some(1)), Measure::Private),
    ] {
        let headline = told(&before, &after);
        assert_eq!(headline.freed, [gave(PROCESS, expected, 4)]);
        assert_eq!(headline.process(), Some(Change(4 << 20)));
        let ends = [headline.process_before, headline.process_after];
        assert_eq!(ends, [9, 5].map(|mib| Some(Bytes::from_mib(mib))));
    }
    let headline = told(&process(None, None, Some(9)), &process(None, Some(9), None));
    assert_eq!((headline.process(), headline.process_before), (None, None));
}

#[test]
fn the_best_number_of_a_device_stands_for_it() {
    let (some, none) = (Some(9), None);
    for (numbers, expected) in [
        ([some, some, some, some], Measure::DriverProcess),
        ([none, some, some, some], Measure::Held),
        ([none, none, some, some], Measure::Tensors),
        ([none, none, none, some], Measure::AllPrograms),
    ] {
        let after = device(numbers.map(|number| number.map(|_| 2)));
        assert_eq!(told(&device(numbers), &after).freed, [gave("cuda:0", expected, 7)]);
    }
    assert_eq!(told(&device([none; 4]), &device([none; 4])).freed, []);
}

#[test]
fn a_step_names_every_place_that_moved_and_unknown_is_not_nothing() {
    let join = |ram: u64, numbers| Reading {
        process: process(None, Some(ram), None).process,
        ..device(numbers)
    };
    let full = [Some(9), Some(9), Some(9), Some(9)];
    let of = |action: &Action, before: &Reading, after: &Reading| {
        Freed::between(before, after).of_step(action)
    };
    let step = |before: &Reading, after: &Reading| of(&Action::Collect, before, after);
    // Tensors that went into torch's cache count as tensors.
    let cached = [Some(9), Some(9), Some(2), Some(9)];
    let moved = [gave(PROCESS, Measure::Private, -3), gave("cuda:0", Measure::Tensors, 7)];
    assert_eq!(step(&join(1, full), &join(4, cached)), moved);
    let nothing = [gave(PROCESS, Measure::Private, 0)];
    assert_eq!(step(&join(1, full), &join(1, full)), nothing);
    assert_eq!(step(&Reading::default(), &Reading::default()), []);
    // Only where the step acts: what else moved meanwhile is not its doing.
    let (before, after) = (join(1, full), join(4, cached));
    assert_eq!(of(&Action::EmptyDeviceCache, &before, &after), moved[1..]);
    assert_eq!(of(&Action::TrimHeap, &before, &after), moved[..1]);
    assert_eq!(of(&Action::Synchronize, &before, &after), []);
}

#[test]
fn a_smaller_working_set_is_no_proof_where_the_system_charges_commit() {
    let (action, because) = (Action::TrimHeap, Release::HeldAndIdle);
    let step = Step { action, what: "C heap".to_owned(), because, estimated: None };
    for (commit, expected) in [(Some(9), Verdict::NothingSeen), (None, Verdict::Confirmed)] {
        let (before, after) = (process(commit, None, Some(7)), process(commit, None, Some(1)));
        assert_eq!(Row::new(&step, Outcome::done(), &before, &after).verdict, expected);
    }
}

#[test]
fn what_moved_to_disk_is_shown_beside_what_was_given_back() {
    let action = Action::Park { keep: Vec::new(), limits: ParkLimits::default() };
    let because = Release::HeldAndIdle;
    let step = Step { action, what: "memory".to_owned(), because, estimated: None };
    let (before, after) = (process(None, Some(9), None), process(None, Some(5), None));
    let parked = Parked { bytes: Bytes::from_mib(4), ..Parked::default() };
    let rows = vec![Row::new(&step, Outcome::Parked(parked), &before, &after)];
    let plan = plan(&build::inventory(""), &build::policy(Level::Park));
    let report = Report::new(&plan, before, after, rows);
    assert_eq!(report.headline.parked, Bytes::from_mib(4));
    assert_eq!(
        render::summary(&report),
        "MemSweep park: private RAM 9.0 MiB -> 5.0 MiB (4.0 MiB given back); 4.0 MiB moved to disk"
    );
}

#[test]
fn destroyed_memory_that_no_reading_shows_is_marked() {
    let (action, because) = (Action::Destroy { keep: Vec::new() }, Release::HeldAndNotNeeded);
    let step = Step { action, what: "tensors".to_owned(), because, estimated: None };
    let mut destroyed = Destroyed::default();
    destroyed.add(None, 1, Bytes::from_mib(900));
    let (before, after) = (process(None, Some(9), None), process(None, Some(9), None));
    let rows = vec![Row::new(&step, Outcome::Destroyed(destroyed), &before, &after)];
    let plan = plan(&build::inventory(""), &build::policy(Level::Destroy));
    let text = render::text(&Report::new(&plan, before, after, rows));
    assert!(text.contains("gave back nothing, 900.0 MiB destroyed, not seen"), "{text}");
}

#[test]
fn a_report_of_0_1_can_still_be_read() {
    let mut old = serde_json::to_value(Report::new(
        &plan(&build::inventory(""), &build::policy(Level::Trim)),
        process(None, Some(9), None),
        process(None, Some(5), None),
        Vec::new(),
    ))
    .unwrap();
    old.as_object_mut().unwrap().remove("headline").unwrap();
    let read: Report = serde_json::from_value(old).unwrap();
    assert_eq!(read.freed.process().unwrap().bytes, Change(4 << 20));
    assert_eq!(read.headline, Headline::default());
}
