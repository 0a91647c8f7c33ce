//! The JSON and the text that Python, the page and people read, compared byte for byte.
//!
//! A changed shape shows as a changed file. `MEMSWEEP_UPDATE_FIXTURES=1 cargo test -p
//! memsweep-core` rewrites them; look at the difference before keeping it.
#![expect(clippy::disallowed_methods, reason = "the tests read files, the core does not")]

mod named;

use memsweep_core::action::{Destroyed, Outcome, Owner};
use memsweep_core::bytes::Bytes;
use memsweep_core::inventory::Inventory;
use memsweep_core::level::Level;
use memsweep_core::park::{Parked, Refused};
use memsweep_core::plan::{Plan, plan};
use memsweep_core::policy::{Goal, Policy};
use memsweep_core::reading::{
    ComfyView, DeviceMemory, DriverView, MachineMemory, ProcessMemory, Reading, SCHEMA, Source,
    TorchView,
};
use memsweep_core::reason::{Missing, Nothing, Refusal, Stopped, Why};
use memsweep_core::render;
use memsweep_core::report::Report;
use memsweep_core::sweep::sweep;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hosts::Scripted;
use crate::{build, files};

/// One whole story: what was found, what was asked for, what the host answered.
struct Story {
    name: &'static str,
    inventory: Inventory,
    policy: Policy,
    readings: Vec<Reading>,
    outcomes: Vec<Outcome>,
}

#[test]
fn stories_are_rendered_as_before() {
    for story in
        [sd15_on_cpu(), two_gpus(), named::story(), failures(), dry_run(), held(), windows()]
    {
        let name = story.name;
        let before = story.readings.first().unwrap().clone();
        check_json(&format!("reading-{name}.json"), &before);
        check(&format!("reading-{name}.txt"), &render::reading_text(&before));
        check_json(&format!("inventory-{name}.json"), &story.inventory);
        let plan = plan(&story.inventory, &story.policy);
        check_json::<Plan>(&format!("plan-{name}.json"), &plan);
        let mut host = Scripted::new(story.readings, story.outcomes);
        if name == "held" {
            host.children = vec![build::child("pt_data_worker", 700)];
        }
        let report = sweep(&plan, &mut host);
        check_json::<Report>(&format!("report-{name}.json"), &report);
        check(&format!("report-{name}.txt"), &render::text(&report));
    }
}

#[test]
fn every_fixture_belongs_to_a_story() {
    let told = ["sd15-cpu", "two-gpus", "named", "failures", "sd15-dry-run", "held", "windows"];
    for file in std::fs::read_dir(files::root().join("fixtures")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let (stem, _) = name.rsplit_once('.').unwrap_or((&name, ""));
        if let Some((_, story)) = stem.split_once('-') {
            assert!(told.contains(&story), "`fixtures/{name}` belongs to no story");
        }
    }
}

/// The value is what the file says, and the file reads back as the value.
fn check_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    name: &str,
    value: &T,
) {
    let text = check(name, &(serde_json::to_string_pretty(value).unwrap() + "\n"));
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value, "{name}");
}

fn check(name: &str, text: &str) -> String {
    files::check(&format!("fixtures/{name}"), text)
}

fn mib(mib: u64) -> Option<Bytes> {
    Some(Bytes::from_mib(mib))
}

fn done() -> Outcome {
    Outcome::done()
}

fn said(detail: &str) -> Outcome {
    Outcome::Done { claimed: None, detail: Some(detail.to_owned()) }
}

fn nothing(reason: &str) -> Outcome {
    Outcome::nothing(Nothing::Other { text: reason.to_owned() })
}

/// The whole SD1.5 in RAM at the end of a workflow, as it was measured on a CPU.
const SD15: &str = "
    storages 3438278656 246144000 335544320 12582912 49152 118272 118272
    model BaseModel cpu 3438278656
    model SD1ClipModel cpu 246144000
    model AutoencoderKL cpu 335544320
    running 10
    entry 4-CheckpointLoaderSimple (s0 m0) (s1 m1) (s2 m2)
    entry 5-EmptyLatentImage (s4)
    entry 6-CLIPTextEncode (s5)
    entry 7-CLIPTextEncode (s6)
    entry 8-VAEDecode (s3)
    entry 9-SaveImage ui
    entry seed (plain)
    node 4 CheckpointLoaderSimple entry=0
    node 5 EmptyLatentImage entry=1
    node 6 CLIPTextEncode entry=2 <- 4.1
    node 7 CLIPTextEncode entry=3 <- 4.1
    node 3 KSampler <- 4.0 6.0 7.0 5.0
    node 8 VAEDecode entry=4 <- 3.0 4.2
    node 9 SaveImage output entry=5 <- 8.0
    node 10 CleanMemory_PurgeAll pending output <- 8.0
    node 11 PrimitiveInt entry=6
    connected s3
    file /models/checkpoints/full.safetensors";

fn sd15_reading(seconds: f64, anonymous: u64, file_backed: u64) -> Reading {
    Reading {
        schema: SCHEMA,
        seconds: Some(seconds),
        process: ProcessMemory {
            resident: mib(anonymous + file_backed),
            anonymous: mib(anonymous),
            file_backed: mib(file_backed),
            shared: Some(Bytes::ZERO),
            swapped: Some(Bytes::ZERO),
            page_locked: Some(Bytes::ZERO),
            heap_slack: mib(180),
            ..ProcessMemory::default()
        },
        machine: MachineMemory {
            total: mib(23_552),
            available: mib(18_000),
            swap_total: Some(Bytes::ZERO),
            swap_free: Some(Bytes::ZERO),
            cgroup_limit: mib(16_384),
            cgroup_used: mib(6_000),
            pressure_percent: Some(0.25),
            ..MachineMemory::default()
        },
        devices: Vec::new(),
    }
}

/// Everything works: 4788 MB of RAM come back to 936.
fn sd15_on_cpu() -> Story {
    let policy = Policy { requested: Level::Park, park: None, ..build::policy(Level::Evict) };
    let steps = [
        (4446, 342), // before
        (920, 342),  // evict
        (916, 342),  // collect
        (916, 342),  // unload
        (916, 342),
        (916, 342),
        (760, 342), // collect again
        (760, 342), // device cache
        (760, 342), // page-locked cache
        (760, 342), // files
        (594, 342), // heap
    ];
    let readings = (0_u32..)
        .zip(steps)
        .map(|(at, (anonymous, files))| sd15_reading(f64::from(at) * 0.125, anonymous, files))
        .collect();
    Story {
        name: "sd15-cpu",
        inventory: build::inventory(SD15),
        policy,
        readings,
        outcomes: vec![
            said("4 entries"),
            said("1204 objects"),
            done(),
            done(),
            done(),
            said("57 objects"),
            Outcome::nothing(Nothing::NoDevice),
            nothing("nothing is page-locked"),
            Outcome::Done {
                claimed: mib(1940),
                detail: Some("page cache of 1 file dropped".to_owned()),
            },
            done(),
        ],
    }
}

fn gpu(id: &str, used: u64, allocated: u64, reserved: u64) -> DeviceMemory {
    DeviceMemory {
        id: id.to_owned(),
        name: Some("NVIDIA GeForce RTX 3090".to_owned()),
        pci: Some(format!("0000:0{}:00.0", if id == "cuda:0" { 1 } else { 2 })),
        uuid: None,
        total: mib(24_576),
        driver: DriverView { used: mib(used), process: mib(used - 100), others: mib(100) },
        torch: TorchView { allocated: mib(allocated), reserved: mib(reserved) },
        comfyui: ComfyView { models: mib(allocated - 65), ..ComfyView::default() },
        source: Some(Source::Nvml),
    }
}

/// After the sampler: the VAE of the loader is still needed, a ControlNet is connected, a goal is
/// set and met before the last step. The second device belongs to another program's model too.
fn two_gpus() -> Story {
    let inventory = build::inventory(
        "storages cuda:0=3438278656 cuda:0=246144000 cuda:0=335544320 cuda:1=1445000000 65536 98304
        model BaseModel cuda:0 3438278656
        model SD1ClipModel cuda:0 246144000
        model AutoencoderKL cuda:0 335544320
        model ControlNet cuda:1 1445000000
        model Flux cuda:1 ?
        entry loader (s0 m0) (s1 m1) (s2 m2)
        entry controlnet (s3 m3)
        entry latent held=8 (s4)
        entry cond (s5)
        entry earlier (m4)
        running 12
        node 4 CheckpointLoaderSimple entry=0
        node 2 ControlNetLoader entry=1
        node 6 CLIPTextEncode entry=3 <- 4.1
        node 3 KSampler entry=2 <- 4.0 6.0 2.0
        node 12 CleanMemory_PurgePass pending <- 2.0 3.0
        node 8 VAEDecode pending <- 12.0 4.2
        node 9 SaveImage pending output <- 8.0
        connected s3 m3 s4
        note 1 model file is on a network drive: its page cache was left alone",
    );
    let row = |seconds, ram, first: (u64, u64, u64), second: (u64, u64, u64)| Reading {
        schema: SCHEMA,
        seconds: Some(seconds),
        process: ProcessMemory {
            resident: mib(ram + 1200),
            anonymous: mib(ram),
            file_backed: mib(1100),
            shared: mib(100),
            page_locked: mib(64),
            ..ProcessMemory::default()
        },
        machine: MachineMemory {
            total: mib(65_536),
            available: mib(40_000),
            ..MachineMemory::default()
        },
        devices: vec![
            gpu("cuda:0", first.0, first.1, first.2),
            gpu("cuda:1", second.0, second.1, second.2),
        ],
    };
    let goal = Goal::DeviceFree { device: "cuda:0".to_owned(), bytes: Bytes::from_mib(23_000) };
    let policy = Policy { goal: Some(goal), ..build::policy(Level::Evict) };
    let full = (4600, 3840, 4200);
    let second = (2300, 1380, 1600);
    Story {
        name: "two-gpus",
        inventory,
        policy,
        readings: vec![
            row(10.0, 2100, full, second),
            row(10.5, 2100, (4400, 3840, 4000), (2200, 1380, 1500)), // device cache
            row(10.75, 2100, (4400, 3840, 4000), (2200, 1380, 1500)), // page-locked cache
            row(11.0, 2080, (4400, 3840, 4000), (2200, 1380, 1500)), // heap
            row(11.25, 2080, (4400, 3840, 4000), (2200, 1380, 1500)), // collect
            row(11.75, 2080, (4400, 3840, 4000), (2200, 1380, 1500)), // device cache
            row(12.0, 2080, (4400, 3840, 4000), (2200, 1380, 1500)), // page-locked cache
            row(12.25, 2080, (4400, 3840, 4000), (2200, 1380, 1500)), // heap
            row(12.5, 5360, (4400, 560, 4000), (2200, 1380, 1500)),  // unload BaseModel
            row(12.75, 5595, (4400, 325, 4000), (2200, 1380, 1500)), // unload SD1ClipModel
            row(13.0, 5595, (4400, 325, 4000), (2200, 1380, 1500)),  // unload Flux: it lies
            row(13.25, 5595, (4400, 325, 4000), (2200, 1380, 1500)), // collect
            row(13.75, 5595, (780, 325, 380), (2200, 1380, 1500)),   // device cache
        ],
        outcomes: vec![
            said("cuda:0, cuda:1"),
            nothing("nothing is free in it"),
            done(),
            said("12 objects"),
            nothing("nothing is free in it"),
            nothing("nothing is free in it"),
            done(),
            done(),
            done(),
            Outcome::Done { claimed: mib(2048), detail: None },
            said("3 objects"),
            said("cuda:0, cuda:1"),
        ],
    }
}

/// Half of it goes wrong, half of it cannot be read, and then the user cancels.
fn failures() -> Story {
    let inventory = build::inventory(
        "model SDXL privateuseone:0 ?
        model T5 cpu 9787841024
        unidentified its list belongs to another prompt
        file /models/clip/t5.safetensors",
    );
    let blind = |resident| Reading {
        schema: SCHEMA,
        process: ProcessMemory { resident: mib(resident), ..ProcessMemory::default() },
        devices: vec![DeviceMemory { id: "privateuseone:0".to_owned(), ..DeviceMemory::default() }],
        ..Reading::default()
    };
    let failed = |error: &str| Outcome::Failed { error: error.to_owned() };
    let policy = Policy { system_wide: true, ..build::policy(Level::Evict) };
    Story {
        name: "failures",
        inventory,
        policy,
        readings: vec![blind(14_000), blind(14_000), blind(14_008)],
        outcomes: vec![
            failed("RuntimeError: an object refused to be collected"),
            failed("ComfyUI kept the model loaded"),
            Outcome::Done { claimed: mib(9334), detail: None },
            said("0 objects"),
            done(),
            Outcome::unsupported(Missing::NoTorchCall),
            failed("/models/clip/t5.safetensors: permission denied"),
            Outcome::Cancelled,
        ],
    }
}

/// The same workflow as the first, on paper only.
fn dry_run() -> Story {
    let policy = Policy { dry_run: true, system_wide: true, ..build::policy(Level::Evict) };
    Story {
        name: "sd15-dry-run",
        inventory: build::inventory(SD15),
        policy,
        readings: vec![sd15_reading(3.0, 4446, 342)],
        outcomes: vec![failures_must_not_show()],
    }
}

/// Another pack keeps models in globals: what it can spare is destroyed, the rest is parked.
fn held() -> Story {
    let stayed =
        |reason, blocks, mib| Refused { why: Why(reason), blocks, bytes: Bytes::from_mib(mib) };
    Story {
        name: "held",
        inventory: build::inventory(SD15),
        policy: build::policy(Level::Destroy),
        readings: (0_u32..)
            .zip([4446, 4446, 4446, 4446, 4446, 4446, 4446, 3000, 3000, 3000, 3000, 3000, 1000])
            .map(|(at, anonymous)| sd15_reading(f64::from(at) * 0.5, anonymous, 342))
            .collect(),
        outcomes: vec![
            Outcome::nothing(Nothing::EntriesGone),
            said("0 objects"),
            done(),
            done(),
            done(),
            said("0 objects"),
            Outcome::Destroyed(Destroyed {
                owners: vec![
                    Owner {
                        name: "global CACHE of custom_nodes.upscaler".to_owned(),
                        tensors: 212,
                        bytes: Bytes::from_mib(1440),
                    },
                    Owner { name: "unknown".to_owned(), tensors: 1, bytes: Bytes::from_mib(6) },
                ],
                refused: vec![stayed(Refusal::Arrays, 2, 64)],
            }),
            said("12 objects"),
            Outcome::nothing(Nothing::NoDevice),
            nothing("nothing is page-locked"),
            Outcome::nothing(Nothing::NoFile),
            Outcome::Parked(Parked {
                bytes: Bytes::from_mib(1990),
                regions: 70,
                already: Bytes::from_mib(300),
                in_memory: mib(12),
                in_flight: Some(Bytes::from_mib(256)),
                folder: Some("/var/tmp".to_owned()),
                stopped: Some(Why(Stopped::Time { seconds: 60.0 })),
                refused: vec![
                    stayed(Refusal::PageLocked, 3, 900),
                    stayed(Refusal::MappedFile, 1, 5),
                ],
            }),
            done(),
        ],
    }
}

/// The heaps give back 80 MiB; then the working set is emptied, which frees nothing.
fn windows() -> Story {
    let row = |seconds, resident, commit| Reading {
        schema: SCHEMA,
        seconds: Some(seconds),
        process: ProcessMemory {
            resident: mib(resident),
            commit: mib(commit),
            ..ProcessMemory::default()
        },
        machine: MachineMemory {
            total: mib(16_384),
            available: mib(6000),
            commit_used: mib(18_000),
            commit_limit: mib(24_576),
            ..MachineMemory::default()
        },
        ..Reading::default()
    };
    Story {
        name: "windows",
        inventory: Inventory::default(),
        policy: Policy { system_wide: true, ..build::policy(Level::Trim) },
        readings: vec![
            row(1.0, 2000, 2900),
            row(1.25, 2000, 2900), // device cache
            row(1.5, 2000, 2900),  // page-locked cache
            row(1.75, 1920, 2820), // heap
            row(2.0, 40, 2820),    // working set
        ],
        outcomes: vec![
            Outcome::nothing(Nothing::NoDevice),
            nothing("nothing is page-locked"),
            said("called HeapOptimizeResources, HeapCompact, _heapmin"),
            said("paged out, not freed"),
        ],
    }
}

/// A dry run asks the host for nothing, so its answers are never seen.
fn failures_must_not_show() -> Outcome {
    Outcome::Failed { error: "a dry run released something".to_owned() }
}
