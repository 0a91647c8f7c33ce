//! What people read instead of numbers and classes.

use memsweep_core::inventory::{Inventory, ModelFact};
use memsweep_core::level::Level;
use memsweep_core::names::{self, Names};
use memsweep_core::plan::plan;

use super::{assert_lines, evict};
use crate::build;

/// The same as in `models.rs`, with what the page and the loader show.
const TITLED: &str = "
    storages 100 20 5
    model BaseModel cuda:0 100 file=sd15.safetensors part=diffusion_model
    model SD1ClipModel cuda:0 20 file=sd15.safetensors part=text_encoder
    model AutoencoderKL cuda:0 5 file=sd15.safetensors part=VAE
    entry - (s0 m0) (s1 m1) (s2 m2)
    node 4 CheckpointLoaderSimple title=Load_Checkpoint entry=0
    node me pending";

#[test]
fn a_file_and_its_part_stand_for_the_class_and_a_title_for_the_class_key() {
    let text = format!("{TITLED}\nnode 6 VAEDecode title=VAE_Decode pending <- 4.2");
    assert_lines(
        &evict(&text),
        &[
            "unload sd15.safetensors, diffusion model, 100 B",
            "unload sd15.safetensors, text encoder, 20 B",
            "keep sd15.safetensors, VAE on cuda:0: node #6 VAE Decode still needs it",
            "keep #4 Load Checkpoint: node #6 VAE Decode still needs it",
        ],
    );
}

#[test]
fn a_step_is_called_by_the_same_names() {
    let built = plan(&build::inventory(TITLED), &build::policy(Level::Evict));
    let told: Vec<String> =
        built.steps.iter().map(|step| format!("{}: {}", step.what, step.because)).collect();
    assert!(told.contains(
        &"cached outputs of 1 node: no node still to run reads #4 Load Checkpoint".to_owned()
    ));
    let unloads: Vec<&str> =
        told.iter().filter_map(|line| line.split_once(": not ")).map(|at| at.0).collect();
    assert_eq!(
        unloads,
        [
            "sd15.safetensors, diffusion model on cuda:0",
            "sd15.safetensors, text encoder on cuda:0",
            "sd15.safetensors, VAE on cuda:0",
        ]
    );
}

#[test]
fn every_reason_that_names_a_node_names_it_alike() {
    let title = "VAEDecode title=Last_look";
    let opaque = format!("{TITLED}\nnode 9 {title} pending opaque");
    assert!(evict(&opaque).contains(
        "keep #4 Load Checkpoint: node #9 Last look is still to run and may read any output"
    ));
    assert!(evict(&opaque).contains("VAE on cuda:0: node #9 Last look is still to run"));
    let feeds = format!("{TITLED}\nnode 9 {title} output <- 4.2");
    assert!(evict(&feeds).contains("feeds output node #9 Last look directly"));
    let targeted = format!("{TITLED}\nnode 9 {title} pending <- 4.0\ntargets m0");
    assert!(evict(&targeted).contains("keep #4 Load Checkpoint: node #9 Last look still needs it"));
    let destroy = |text: &str| -> Vec<String> {
        let plan = plan(&build::inventory(text), &build::policy(Level::Destroy));
        plan.notes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        destroy(&opaque),
        [
            "nothing was destroyed, because node #9 Last look is still to run and may read any output"
        ]
    );
    let odd = "entry - ?\nnode 4 title=My_loader entry=0\nnode me pending";
    let note = "nothing was destroyed, because #4 My loader has a shape we do not know";
    assert_eq!(destroy(odd), [note]);
}

#[test]
fn a_cached_output_without_a_name_is_called_after_its_nodes() {
    let text = "
        entry - (s0)
        entry - (s1)
        entry -
        entry ours (s2)
        node 7 CLIPTextEncode title=Prompt entry=0
        node 12 CLIPTextEncode entry=0
        node 3 entry=1
        node 4 title=Loader entry=3";
    let inventory = build::inventory(text);
    let names = Names::of(&inventory);
    let memsweep_core::inventory::Executor::Identified(execution) = &inventory.executor else {
        panic!("it is identified")
    };
    let found: Vec<String> =
        (0..).zip(&execution.entries).map(|(number, entry)| names.entry(number, entry)).collect();
    assert_eq!(
        found,
        ["#7 Prompt, #12 CLIPTextEncode", "#3", "an earlier workflow's node", "ours"]
    );
    assert_eq!(names.node("nobody described it"), "#nobody described it");
}

#[test]
fn a_title_that_says_nothing_is_none() {
    let mut inventory = build::inventory("node 6 VAEDecode title=_ pending");
    assert_eq!(Names::of(&inventory).node("6"), "#6 VAEDecode");
    inventory = build::inventory("node 6 pending");
    assert_eq!(Names::of(&inventory).node("6"), "#6");
}

#[test]
fn a_model_is_called_by_what_is_known_of_it() {
    let called = |files: &[&str], part: Option<&str>| {
        let fact = ModelFact {
            name: "SD1ClipModel".to_owned(),
            device: "cpu".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            part: part.map(str::to_owned),
            ..ModelFact::default()
        };
        names::model_on_its_device(&fact)
    };
    assert_eq!(called(&[], None), "model SD1ClipModel on cpu");
    // A model whose file is unknown keeps the name it always had.
    assert_eq!(called(&[], Some("text encoder")), "model SD1ClipModel on cpu");
    assert_eq!(called(&["clip.safetensors"], None), "model clip.safetensors on cpu");
    assert_eq!(
        called(&["clip_l.safetensors", "t5.safetensors"], Some("text encoder")),
        "clip_l.safetensors + t5.safetensors, text encoder on cpu"
    );
}

#[test]
fn an_inventory_of_0_1_is_read_and_has_its_own_names() {
    let text = r#"{
        "models": [{"name": "BaseModel", "device": "cuda:0", "bytes": 5, "loaded": true}],
        "executor": {
            "kind": "identified", "running": "9",
            "nodes": [
                {"id": "4", "class": "CheckpointLoaderSimple", "entry": 0},
                {"id": "6", "class": "VAEDecode", "pending": true, "links": [{"source": "4", "slot": 0}]}
            ],
            "entries": [{"name": "4 CheckpointLoaderSimple", "slots": [{"models": [0]}]}]
        }
    }"#;
    let inventory: Inventory = serde_json::from_str(text).unwrap();
    let built = plan(&inventory, &build::policy(Level::Evict));
    assert_lines(
        &super::decisions(&built),
        &[
            "keep model BaseModel on cuda:0: node #6 VAEDecode still needs it",
            "keep 4 CheckpointLoaderSimple: node #6 VAEDecode still needs it",
        ],
    );
}
