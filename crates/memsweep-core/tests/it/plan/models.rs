//! Which models leave their device.

use memsweep_core::level::Level;

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
            "keep model VAE on cuda:0: node 8 still needs it",
            "keep loader: node 8 still needs it",
        ],
    );
    let sample = format!("{decode}\nnode 3 KSampler pending <- 4.0");
    assert_lines(
        &check(&sample, Level::Unload),
        &[
            "unload CLIP, 20 B",
            "keep model UNET on cuda:0: node 3 still needs it",
            "keep model VAE on cuda:0: node 8 still needs it",
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
            "keep model UNET on cuda:0: node 9 still needs it",
            "keep lora: node 9 still needs it",
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
    assert!(found.notes.iter().any(|note| note.contains("no model")), "{:?}", found.notes);
}
