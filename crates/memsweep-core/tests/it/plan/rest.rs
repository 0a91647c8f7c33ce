//! Who holds memory that stays on a device.

use memsweep_core::level::Level;
use memsweep_core::plan::plan;

use crate::build;

/// What the plan says of it, as `device: who: bytes`.
fn holders(level: Level, inventory: &str) -> Vec<String> {
    let plan = plan(&build::inventory(inventory), &build::policy(level));
    plan.rest
        .iter()
        .map(|row| format!("{}: {}", row.why, row.bytes.unwrap_or_default().0))
        .collect()
}

/// A decoder is still to run; the image that it does not need can go.
const PROMPT: &str = "
    storages cuda:0=5000 cuda:0=64 cuda:0=12 cuda:1=7 900 cuda:0=1
    model VAE cuda:0 5000
    entry loader (s0 m0)
    entry latent (s1 s2 s4) (s3)
    entry twin (s2 s1)
    entry image (s5)
    node 1 Loader entry=0
    node 2 Sampler entry=1 <- 1.0
    node 3 Sampler entry=2 <- 1.0
    node 4 Decode entry=3
    node 8 Decode pending <- 2.0 2.1 3.0 1.0";

#[test]
fn outputs_that_stay_are_named_once_without_models_and_ram() {
    let latent = [
        "cuda:0: cached output of latent, which stays: 76",
        "cuda:1: cached output of latent, which stays: 7",
    ];
    assert_eq!(holders(Level::Evict, PROMPT), latent);
    let image = "cuda:0: cached output of image, which stays: 1";
    assert_eq!(holders(Level::Unload, PROMPT), [image, latent[0], latent[1]]);
}

#[test]
fn the_graph_of_what_stays_is_told() {
    let graphs = |connected| {
        let inventory = PROMPT.replace("900", "900*").replace("cuda:0=1\n", "cuda:0=1*\n");
        let mut rows = holders(Level::Evict, &format!("{inventory}\nconnected {connected}"));
        rows.retain(|row| row.contains("graph"));
        rows
    };
    let keeps = ": has an autograd graph, which keeps what it needs for a backward pass: 0";
    let latent = format!("cached output of latent, which stays{keeps}");
    assert_eq!(graphs("s0"), std::slice::from_ref(&latent));
    assert_eq!(graphs("s4"), [format!("connected to this node{keeps}"), latent]);
}

#[test]
fn what_is_connected_comes_first_unless_a_model_is_in_it() {
    let connected = holders(Level::Evict, &format!("{PROMPT}\nconnected s1 s77"));
    let rest = [
        "cuda:0: connected to this node: 64",
        "cuda:0: cached output of latent, which stays: 12",
        "cuda:1: cached output of latent, which stays: 7",
    ];
    assert_eq!(connected, rest);
    let with_a_model = holders(Level::Evict, &format!("{PROMPT}\nconnected s1 m0"));
    assert!(!with_a_model.iter().any(|row| row.contains("connected")), "{with_a_model:?}");
}
