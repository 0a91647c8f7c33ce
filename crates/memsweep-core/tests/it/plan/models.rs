//! Which models leave their device.

use memsweep_core::level::Level;
use memsweep_core::reason::Note;

use crate::build;

use super::{LOADER, assert_lines, check, evict};

#[test]
fn models_are_protected_by_the_output_that_is_read() {
    let decode = format!("{LOADER}\nnode 8 VAEDecode pending <- 4.2");
    assert_lines(
        &evict(&decode),
        &[
            "unload UNET, 100 B",
            "unload CLIP, 20 B",
            "keep model VAE on cuda:0: node #8 VAEDecode still needs it",
            "keep loader: node #8 VAEDecode still needs it",
        ],
    );
    let sample = format!("{decode}\nnode 3 KSampler pending <- 4.0");
    assert_lines(
        &check(&sample, Level::Unload),
        &[
            "unload CLIP, 20 B",
            "keep model UNET on cuda:0: node #3 KSampler still needs it",
            "keep model VAE on cuda:0: node #8 VAEDecode still needs it",
        ],
    );
    let nonsense = format!("{LOADER}\nnode 8 VAEDecode pending <- 4.7");
    assert!(!evict(&nonsense).contains("unload"), "an output that is not there protects them all");
}

#[test]
fn connected_models_stay_and_absent_ones_are_not_mentioned() {
    let text = format!("{LOADER}\nmodel SPARE cuda:0 7 -\nconnected m1");
    assert_lines(
        &evict(&text),
        &[
            "evict loader, 125 B",
            "unload UNET, 100 B",
            "unload VAE, 5 B",
            "keep model CLIP on cuda:0: connected to this node",
        ],
    );
}

#[test]
fn unloading_promises_no_ram_and_passes_unknown_sizes_on() {
    let text = "
        model UNET cpu 500
        model CLIP cuda:0 ?
        node me pending";
    assert_lines(&check(text, Level::Unload), &["unload UNET, 0 B", "unload CLIP, ?"]);
}

#[test]
fn a_model_that_somebody_else_is_using_stays_and_so_does_the_output_that_holds_it() {
    let text = "
        storages 100 20
        model UNET cuda:0 100 user=thread-7
        model CLIP cuda:0 20
        entry loader (s0 m0) (s1 m1)
        entry other (s1 m1)
        node 4 CheckpointLoaderSimple entry=0
        node me pending";
    let kept_model = "keep model UNET on cuda:0: thread-7 is using it";
    let kept_loader = "keep loader: thread-7 is using it";
    assert_lines(&check(text, Level::Unload), &["unload CLIP, 20 B", kept_model]);
    assert_lines(
        &evict(text),
        &[
            "unload CLIP, 20 B",
            kept_model,
            kept_loader,
            "keep other: dropping it would free nothing",
        ],
    );
    assert_lines(&evict(&format!("{text}\ntargets m0")), &[kept_model, kept_loader]);
    // CLIP was asked for, and nobody uses that one.
    assert_lines(
        &evict(&format!("{text}\ntargets m1")),
        &["evict loader other, 120 B", "unload CLIP, 20 B"],
    );
    // Not on its device, but in RAM on account of whoever holds it.
    let in_ram = text.replace("100 user=", "100 - user=");
    assert_lines(&evict(&format!("{in_ram}\ntargets m0")), &[kept_loader]);
    let connected = format!("{text}\nconnected m0");
    assert!(check(&connected, Level::Unload).contains("UNET on cuda:0: connected"));
    let needed = format!("{text}\nnode 3 KSampler pending <- 4.0");
    assert!(
        check(&needed, Level::Unload).contains("UNET on cuda:0: node #3 KSampler still needs it")
    );
}

#[test]
fn a_model_kept_on_the_device_it_runs_on_promises_nothing_and_says_why() {
    let text = "
        model HIGHVRAM cuda:0 500 kept=cuda:0
        model NORMAL cuda:0 500 kept=cpu
        model UNKNOWN cuda:0 500
        model CPU cpu 500 kept=cpu
        node me pending";
    let lines = ["HIGHVRAM, 0 B", "NORMAL, 500 B", "UNKNOWN, 500 B", "CPU, 0 B"];
    let lines = lines.map(|line| format!("unload {line}"));
    assert_lines(&check(text, Level::Unload), &lines.each_ref().map(String::as_str));
    let plan = memsweep_core::plan::plan(&build::inventory(text), &build::policy(Level::Unload));
    let reasons: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, memsweep_core::action::Action::Unload { .. }))
        .map(|step| step.because.to_string())
        .collect();
    let stays = |device| {
        format!(
            "not connected, and no node still to run needs it; its weights stay on {device}, where \
             unloading puts them too"
        )
    };
    let goes = "not connected, and no node still to run needs it";
    assert_eq!(reasons, [&stays("cuda:0"), goes, goes, &stays("cpu")]);
}

#[test]
fn one_model_by_name_takes_the_entries_that_hold_it_and_nothing_else() {
    let text = format!("{LOADER}\nstorages 9\nentry lora (s0 m0)\nentry image (s3)\ntargets m0");
    let feeding = format!("{text}\nnode 7 entry=1\nnode 8 output entry=2 <- 7.0");
    assert_lines(&evict(&feeding), &["evict loader lora, 125 B", "unload UNET, 100 B"]);
    let needed = format!("{feeding}\nnode 9 pending <- 7.0");
    assert_lines(
        &evict(&needed),
        &[
            // `lora` keeps `s0`, so only CLIP and VAE would come back.
            "evict loader, 25 B",
            "keep model UNET on cuda:0: node #9 still needs it",
            "keep lora: node #9 still needs it",
        ],
    );
    let connected = format!("{text}\nconnected m0");
    assert_lines(
        &evict(&connected),
        &[
            "keep model UNET on cuda:0: connected to this node",
            "keep loader: connected to this node",
            "keep lora: connected to this node",
        ],
    );
    let shown = format!("{text}\nnode 8 output entry=1");
    assert!(evict(&shown).contains("keep lora: an output node would run again without it"));
    let unreadable = format!("{text}\nnode 9 pending opaque");
    assert!(!evict(&unreadable).contains("evict"));
}

#[test]
fn shallow_levels_decide_nothing() {
    for level in [Level::Trim, Level::Collect] {
        assert_lines(&check(LOADER, level), &[]);
    }
    assert!(!check(LOADER, Level::Unload).contains("evict"));
}

#[test]
fn a_model_that_was_not_found_releases_nothing_else() {
    let text = "storages 9\nmodel UNET cuda:0 5\nentry dead (s0 m0)\ntargets \nnode me pending";
    let found = memsweep_core::plan::plan(&build::inventory(text), &build::policy(Level::Evict));
    assert!(found.steps.iter().all(|step| !matches!(
        step.action,
        memsweep_core::action::Action::Evict { .. } | memsweep_core::action::Action::Unload { .. }
    )));
    assert!(found.notes.contains(&Note::NoTarget.into()), "{:?}", found.notes);
}
