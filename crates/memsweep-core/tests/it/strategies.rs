//! Random values for the properties.

use memsweep_core::action::{Destroyed, Outcome, Owner};
use memsweep_core::bytes::Bytes;
use memsweep_core::inventory::{
    Connected, EntryFact, Execution, Executor, Inventory, Link, LoopFact, ModelFact, NodeFact,
    Reads, SlotFact, StorageFact,
};
use memsweep_core::level::Level;
use memsweep_core::park::{Parked, Refused};
use memsweep_core::policy::{Goal, ParkSettings, Policy, Settings};
use memsweep_core::reading::{
    ComfyView, DeviceMemory, DriverView, MachineMemory, ProcessMemory, Reading, SCHEMA, Source,
    TorchView,
};
use memsweep_core::reason::{Missing, Nothing, Refusal, Skip, Stopped, Why};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Nodes, entries, storages and models of a random workflow. Small, so that they collide often.
const NODES: usize = 9;
const ENTRIES: u32 = 6;
const STORAGES: u32 = 6;
const MODELS: u32 = 4;

/// A workflow with an executor that was identified; links and numbers may point nowhere.
pub(crate) fn inventories() -> impl Strategy<Value = Inventory> {
    (
        vec(storage(), 0..=STORAGES as usize),
        vec(model(), 0..=MODELS as usize),
        (vec(0..STORAGES + 1, 0..3), vec(0..MODELS + 1, 0..2)),
        executions(),
        prop_oneof![4 => Just(Vec::new()), 1 => vec(0..MODELS + 1, 1..3)],
        prop::bool::weighted(0.1),
    )
        .prop_map(|(storages, models, (held, chosen), execution, targets, only_targets)| {
            let mut inventory = Inventory {
                storages,
                models,
                targets,
                only_targets,
                connected: Connected { storages: held, models: chosen },
                executor: Executor::Identified(execution),
                mapped_files: vec!["/models/a.safetensors".to_owned()],
                ..Inventory::default()
            };
            // Names tell them apart in what the plan says for people.
            for (number, model) in inventory.models.iter_mut().enumerate() {
                model.name = format!("m{number}");
                model.files.iter_mut().for_each(|file| file.push_str(&model.name));
            }
            inventory
        })
}

fn storage() -> impl Strategy<Value = StorageFact> {
    (1_u64..1000, device()).prop_map(|(bytes, device)| StorageFact {
        bytes: Bytes(bytes),
        device,
        graph: bytes > 500,
    })
}

fn model() -> impl Strategy<Value = ModelFact> {
    (
        device(),
        option::of(1_u64..1000),
        prop::bool::weighted(0.8),
        option::of(device()),
        prop::bool::weighted(0.15),
        (vec("[a-z]{1,4}", 0..3), option::of("[a-z ]{1,4}")),
        option::of(0_u64..1000),
    )
        .prop_map(|(device, bytes, loaded, offload_device, is_used, (files, part), pinned)| {
            ModelFact {
                name: String::new(),
                files,
                part,
                device,
                bytes: bytes.map(Bytes),
                pinned: pinned.map(Bytes),
                loaded,
                offload_device,
                in_use_by: is_used.then(|| "somebody".to_owned()),
            }
        })
}

fn device() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["cpu", "cuda:0", "cuda:1"]).prop_map(str::to_owned)
}

fn executions() -> impl Strategy<Value = Execution> {
    let given = (id(), vec(0..STORAGES + 1, 0..3), vec(0..MODELS + 1, 0..2))
        .prop_map(|(node, storages, models)| LoopFact { node, storages, models });
    (
        vec(node(), 0..=NODES),
        vec(entry(), 0..=ENTRIES as usize),
        0..NODES,
        prop_oneof![8 => Just(Vec::new()), 1 => vec(given, 1..3)],
    )
        .prop_map(|(mut nodes, mut entries, running, loop_results)| {
            for (number, node) in nodes.iter_mut().enumerate() {
                node.id = number.to_string();
            }
            for (number, entry) in entries.iter_mut().enumerate() {
                entry.name = format!("e{number}");
            }
            let running = running.to_string();
            Execution { running, nodes, entries, keeps_nothing: false, loop_results }
        })
}

/// Ids of nodes; one of them does not exist.
fn id() -> impl Strategy<Value = String> {
    (0..=NODES).prop_map(|number| number.to_string())
}

fn node() -> impl Strategy<Value = NodeFact> {
    (
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.1),
        prop_oneof![
            30 => Just(Reads::Links), 4 => Just(Reads::Upstream), 1 => Just(Reads::Anything)
        ],
        option::weighted(0.1, links()),
        prop::bool::weighted(0.1),
        option::weighted(0.2, id()),
        (links(), prop_oneof![8 => Just(Vec::new()), 1 => vec(id(), 1..3)]),
        option::weighted(0.6, 0..ENTRIES + 1),
        option::of("[a-z ]{0,4}"),
    )
        .prop_map(
            |(
                pending,
                output,
                reads,
                expanded,
                unrepeatable,
                parent,
                (links, names),
                entry,
                title,
            )| {
                NodeFact {
                    id: String::new(),
                    shown: None,
                    class: "Any".to_owned(),
                    title,
                    pending,
                    output,
                    reads,
                    expanded,
                    unrepeatable,
                    parent,
                    links,
                    names,
                    entry,
                }
            },
        )
}

fn links() -> impl Strategy<Value = Vec<Link>> {
    vec((id(), 0_u32..3).prop_map(|(source, slot)| Link { source, slot }), 0..3)
}

fn entry() -> impl Strategy<Value = EntryFact> {
    (
        option::weighted(0.9, vec(slot(), 0..3)),
        prop::bool::weighted(0.1),
        prop_oneof![6 => Just(Vec::new()), 1 => vec(id(), 1..3)],
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(slots, has_ui, held_for, unfindable, unrepeatable)| EntryFact {
            name: String::new(),
            slots,
            has_ui,
            held_for,
            unfindable,
            unrepeatable,
        })
}

fn slot() -> impl Strategy<Value = SlotFact> {
    prop_oneof![
        1 => Just(SlotFact { plain: true, ..SlotFact::default() }),
        5 => (vec(0..STORAGES + 1, 0..3), vec(0..MODELS + 1, 0..2)).prop_map(
            |(storages, models)| SlotFact { storages, models, plain: false }
        ),
    ]
}

/// A size that may be unknown.
fn size() -> impl Strategy<Value = Option<Bytes>> {
    option::of(prop_oneof![any::<u64>(), 0_u64..1 << 40]).prop_map(|bytes| bytes.map(Bytes))
}

fn number() -> impl Strategy<Value = Option<f64>> {
    option::of(prop::num::f64::NORMAL | prop::num::f64::ZERO)
}

/// A reading with any numbers in it and any of them missing.
pub(crate) fn readings() -> impl Strategy<Value = Reading> {
    (number(), vec(size(), 11), vec(size(), 8), number(), vec(device_row(), 0..3)).prop_map(
        |(seconds, process, machine, pressure_percent, mut devices)| {
            for (number, device) in devices.iter_mut().enumerate() {
                device.id = format!("cuda:{number}");
            }
            Reading {
                schema: SCHEMA,
                seconds,
                process: ProcessMemory {
                    resident: process[0],
                    anonymous: process[1],
                    file_backed: process[2],
                    shared: process[3],
                    swapped: process[4],
                    page_locked: process[5],
                    heap_slack: process[6],
                    parked: process[7],
                    commit: process[8],
                    footprint: process[9],
                },
                machine: MachineMemory {
                    total: machine[0],
                    available: machine[1],
                    swap_total: machine[2],
                    swap_free: machine[3],
                    cgroup_limit: machine[4],
                    cgroup_used: machine[5],
                    pressure_percent,
                    commit_used: machine[6],
                    commit_limit: machine[7],
                },
                devices,
            }
        },
    )
}

fn device_row() -> impl Strategy<Value = DeviceMemory> {
    (option::of("[a-z ]{1,8}"), vec(size(), 8)).prop_map(|(name, sizes)| DeviceMemory {
        id: String::new(),
        pci: name.clone(),
        uuid: name.clone(),
        source: name.as_ref().map(|_| Source::Nvml),
        name,
        total: sizes[0],
        driver: DriverView { used: sizes[1], process: sizes[2], others: sizes[3] },
        torch: TorchView { allocated: sizes[4], reserved: sizes[5] },
        comfyui: ComfyView { paged: sizes[6], models: sizes[7] },
    })
}

/// Anything a host may answer.
pub(crate) fn outcomes() -> impl Strategy<Value = Outcome> {
    let words = || "[a-z]{1,12}";
    prop_oneof![
        4 => (size(), option::of(words()))
            .prop_map(|(claimed, detail)| Outcome::Done { claimed, detail }),
        1 => (any::<u64>(), option::of(words()), vec(refused(), 0..3)).prop_map(
            |(bytes, stopped, refused)| Outcome::Parked(Parked {
                bytes: Bytes(bytes),
                stopped: stopped.map(|text: String| Why(Stopped::from(text))),
                refused,
                ..Parked::default()
            })
        ),
        1 => (vec(words(), 0..3), any::<u64>(), vec(refused(), 0..3)).prop_map(
            |(names, bytes, refused)| {
                let owner = |name| Owner { name, tensors: 1, bytes: Bytes(bytes) };
                Outcome::Destroyed(Destroyed {
                    owners: names.into_iter().map(owner).collect(),
                    refused,
                })
            }
        ),
        1 => words().prop_map(|text| Outcome::nothing(Nothing::Other { text })),
        1 => words().prop_map(|text| Outcome::skipped(Skip::Other { text })),
        1 => words().prop_map(|text| Outcome::unsupported(Missing::Other { text })),
        1 => words().prop_map(|error| Outcome::Failed { error }),
        1 => Just(Outcome::Cancelled),
    ]
}

fn refused() -> impl Strategy<Value = Refused> {
    ("[a-z]{1,12}", any::<u64>(), any::<u64>()).prop_map(|(text, blocks, bytes)| Refused {
        why: Why(Refusal::Other { text }),
        blocks,
        bytes: Bytes(bytes),
    })
}

/// Any goal.
pub(crate) fn goals() -> impl Strategy<Value = Goal> {
    let bytes = || any::<u64>().prop_map(Bytes);
    prop_oneof![
        bytes().prop_map(Goal::RamAvailable),
        bytes().prop_map(Goal::ProcessAnonymous),
        (bytes(), 0_u8..3)
            .prop_map(|(bytes, at)| Goal::DeviceFree { device: format!("cuda:{at}"), bytes }),
    ]
}

/// Any policy that settings can lead to.
pub(crate) fn policies() -> impl Strategy<Value = Policy> {
    let level = prop::sample::select(Level::ALL.to_vec());
    (level, option::of(goals()), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(level, goal, system_wide, dry_run, off)| {
            let settings = Settings {
                level: Some(level.name().to_owned()),
                goal,
                system_wide,
                dry_run,
                park: ParkSettings { off, ..ParkSettings::default() },
            };
            Policy::try_from(settings).unwrap()
        },
    )
}
