//! Which cached outputs go.

use memsweep_core::action::Action;
use memsweep_core::level::Level;
use memsweep_core::plan::plan;
use memsweep_core::policy::{ParkSettings, Policy, Settings};

use super::{assert_lines, decisions, evict};
use crate::build;

#[test]
fn what_a_pending_node_reads_stays_and_the_rest_goes() {
    let text = "
        storages 10 20
        entry read (s0)
        entry spent (s1)
        node 1 entry=0
        node 2 entry=1
        node 3 pending <- 1.0
        node me pending";
    assert_lines(&evict(text), &["evict spent, 20 B", "keep read: node #3 still needs it"]);
}

#[test]
fn the_running_node_needs_nothing_from_the_cache() {
    let text = "
        storages 10
        entry input (s0)
        node 1 entry=0
        node me pending <- 1.0";
    // It holds its inputs itself, but then nothing would be gained either.
    assert_lines(&evict(text), &["evict input, 10 B"]);
    let connected = format!("{text}\nconnected s0");
    assert_lines(
        &evict(&connected),
        &[
            "keep input: dropping it would free nothing",
            "note protected by what is connected: 1 block of memory, 10 B",
        ],
    );
}

#[test]
fn a_result_of_a_pending_node_stays_because_it_is_staged_again() {
    let text = "
        storages 10
        entry mine (s0)
        node 1 pending entry=0
        node me pending";
    assert_lines(&evict(text), &["keep mine: node #1 still needs it"]);
}

#[test]
fn an_unevaluated_source_keeps_its_nearest_cached_ancestors_only() {
    let text = "
        storages 10 20 30
        entry far (s0)
        entry near (s1)
        entry aside (s2)
        node 1 entry=0
        node 2 entry=1 <- 1.0
        node 3 <- 2.0
        node 4 <- 3.0
        node 5 entry=2
        node 6 pending <- 4.0
        node me pending";
    assert_lines(&evict(text), &["evict far aside, 40 B", "keep near: node #6 still needs it"]);
}

#[test]
fn an_unevaluated_source_that_could_not_be_read_keeps_the_prompt() {
    let text = "
        storages 10 20
        model UNET cuda:0 500
        entry maybe (s0)
        entry earlier (s1)
        node 1 entry=0
        node 2 opaque
        node 3 pending <- 2.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict earlier, 20 B",
            "keep model UNET on cuda:0: node #2 is still to run and may read any output",
            "keep maybe: node #2 is still to run and may read any output",
        ],
    );
}

#[test]
fn a_pending_source_is_not_walked_past_twice() {
    let text = "
        storages 10
        entry first (s0)
        node 1 entry=0
        node 2 pending <- 1.0
        node 3 pending <- 2.0
        node me pending";
    assert_lines(&evict(text), &["keep first: node #2 still needs it"]);
}

#[test]
fn an_entry_of_two_nodes_stays_when_either_is_needed() {
    let text = "
        storages 10
        entry shared (s0)
        node 1 entry=0
        node 2 entry=0
        node 3 pending <- 2.0
        node me pending";
    assert_lines(&evict(text), &["keep shared: node #3 still needs it"]);
}

#[test]
fn results_inside_an_expansion_stay_while_an_ancestor_is_pending() {
    let text = "
        storages 10 20 30
        entry child (s0)
        entry grandchild (s1)
        entry other (s2)
        node 1 pending
        node 1.a entry=0 parent=1
        node 1.a.b entry=1 parent=1.a
        node 2
        node 2.a entry=2 parent=2
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict other, 30 B",
            "keep child: node #1 still needs it",
            "keep grandchild: node #1 still needs it",
        ],
    );
}

#[test]
fn an_expansion_of_a_node_nobody_described_stays() {
    let text = "
        storages 10
        entry orphan (s0)
        node 1.a entry=0 parent=gone
        node me pending";
    assert_lines(&evict(text), &["keep orphan: node #gone still needs it"]);
}

#[test]
fn what_the_executor_holds_for_another_node_stays() {
    let text = "
        storages 10 20
        model UNET cuda:0 500
        entry held held=3 (s0)
        entry ours held=me (s1)
        entry foreign held=gone (m0)
        node 3 pending
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict ours, 20 B",
            // A consumer that nobody described may read any output.
            "keep model UNET on cuda:0: node #gone still needs it",
            "keep held: node #3 still needs it",
            "keep foreign: node #gone still needs it",
        ],
    );
}

#[test]
fn a_pending_node_that_could_not_be_read_keeps_its_prompt_and_every_model() {
    let text = "
        storages 10 20
        model UNET cuda:0 500
        entry mine (s0)
        entry earlier (s1)
        node 1 entry=0
        node 2 pending opaque
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict earlier, 20 B",
            "keep model UNET on cuda:0: node #2 is still to run and may read any output",
            "keep mine: node #2 is still to run and may read any output",
        ],
    );
    let finished = text.replace("node 2 pending opaque", "node 2 opaque");
    assert_lines(&evict(&finished), &["evict mine earlier, 30 B", "unload UNET, 500 B"]);
}

#[test]
fn output_nodes_and_what_feeds_them_stay() {
    let text = "
        storages 10 20 30 40
        entry deep (s0)
        entry feeder (s1)
        entry saved (s2)
        entry shown ui (s3)
        node 1 entry=0
        node 2 entry=1 <- 1.0
        node 3 output entry=2 <- 2.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict deep, 10 B",
            "keep feeder: feeds output node #3 directly",
            "keep saved: an output node would run again without it",
            "keep shown: an output node would run again without it",
        ],
    );
}

#[test]
fn a_terminal_sweep_keeps_what_feeds_it() {
    let text = "
        storages 10
        entry image (s0)
        node 1 entry=0
        node me pending output <- 1.0";
    assert_lines(&evict(text), &["keep image: feeds output node #me directly"]);
}

#[test]
fn a_finished_output_node_whose_inputs_are_unknown_keeps_its_prompt() {
    let text = "
        storages 10 20
        model UNET cuda:0 500
        entry perhaps-feeds (s0)
        entry earlier (s1)
        node 1 entry=0
        node 2 output opaque
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict earlier, 20 B",
            "unload UNET, 500 B",
            "keep perhaps-feeds: feeds output node #2 directly",
        ],
    );
}

#[test]
fn entries_that_gain_nothing_stay() {
    let text = "
        storages 10 20
        entry number (plain)
        entry nothing
        entry alias (s0) (plain)
        entry partly (s0 s1)
        entry unseen ()
        entry needed (s0)
        node 1 entry=5
        node 2 pending <- 1.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            // An output that nobody can see into may hold anything; only `s1` is counted.
            "evict partly unseen, 20 B",
            "keep number: dropping it would free nothing",
            "keep nothing: dropping it would free nothing",
            "keep alias: dropping it would free nothing",
            "keep needed: node #2 still needs it",
        ],
    );
}

#[test]
fn memory_shared_by_entries_counts_once() {
    let text = "
        storages 10 20
        entry a (s0 s0)
        entry b (s0) (s1)
        node me pending";
    assert_lines(&evict(text), &["evict a b, 30 B"]);
}

#[test]
fn an_entry_of_unknown_shape_stays() {
    let text = "
        model UNET cuda:0 500
        entry odd ?
        node me pending";
    assert_lines(
        &evict(text),
        &["unload UNET, 500 B", "keep odd: its content has a shape we do not know"],
    );
    let kept = plan(&build::inventory(text), &build::policy(Level::Evict)).kept;
    assert_eq!(kept.iter().map(|kept| kept.bytes).collect::<Vec<_>>(), [None], "unknown, not 0");
    // Needed and unreadable, it may hold any model.
    let needed = format!("{text}\nnode 1 entry=0\nnode 2 pending <- 1.0");
    assert_lines(
        &evict(&needed),
        &[
            "keep model UNET on cuda:0: node #2 is still to run and may read any output",
            "keep odd: node #2 still needs it",
        ],
    );
}

#[test]
fn without_a_known_executor_nothing_is_evicted() {
    let unknown = "model UNET cuda:0 500\nunidentified no frame was found";
    assert_lines(
        &evict(unknown),
        &[
            "unload UNET, 500 B",
            "note no cached output was dropped, because the executor was not recognised: \
             no frame was found",
        ],
    );
    assert_lines(&evict("model UNET cuda:0 500\nabsent"), &["unload UNET, 500 B"]);
    assert_lines(
        &evict("storages 10\nentry a (s0)\nkeeps-nothing"),
        &["note this ComfyUI keeps no output cache: nothing to drop"],
    );
}

#[test]
fn without_parking_the_level_stops_at_evict_and_says_so() {
    let text = "storages 10\nentry a (s0)\nnote seen before";
    let settings = Settings {
        level: Some("park".to_owned()),
        park: ParkSettings { off: true, ..ParkSettings::default() },
        ..Settings::default()
    };
    let policy = Policy::try_from(settings).unwrap();
    let built = plan(&build::inventory(text), &policy);
    let note = "note parking is switched off: the sweep went as far as evict";
    assert_lines(&decisions(&built), &["evict a, 10 B", note, "note seen before"]);
    assert!(!built.steps.iter().any(|step| matches!(step.action, Action::Park { .. })));
}

#[test]
fn nothing_is_destroyed_where_it_is_not_known_what_is_needed() {
    for (text, note) in [
        (
            "storages 10\nunidentified no frame",
            "nothing was destroyed, because the executor was not recognised: no frame",
        ),
        (
            "storages 10\nnode 1 pending opaque",
            "nothing was destroyed, because node #1 is still to run and may read any output",
        ),
        (
            "storages 10\nentry odd ?",
            "nothing was destroyed, because odd has a shape we do not know",
        ),
    ] {
        let built = plan(&build::inventory(text), &build::policy(Level::Destroy));
        assert!(built.notes.iter().any(|found| found.to_string() == note), "{:?}", built.notes);
        assert!(!built.steps.iter().any(|step| matches!(step.action, Action::Destroy { .. })));
        assert!(built.steps.iter().any(|step| matches!(step.action, Action::Park { .. })));
    }
}

#[test]
fn cycles_end() {
    let text = "
        storages 10
        entry kept (s0)
        node 1 <- 2.0
        node 2 <- 1.0 2.0 9.0
        node 3 pending <- 1.0 3.0
        node 4 parent=5
        node 5 parent=4 entry=0
        node 6 parent=6
        node 9 entry=0
        node me pending parent=me <- me.0";
    assert_lines(&evict(text), &["keep kept: node #3 still needs it"]);
}

#[test]
fn what_points_nowhere_protects_nothing_and_hides_nothing() {
    let text = "
        storages 10 20
        model UNET cuda:0 500
        entry ancestor (s0 s99 m99)
        entry spent (s1 s98)
        connected s97 m97
        node 1 entry=0
        node 2 entry=77 <- 1.0
        node 3 pending <- 2.0 nobody.0
        node me pending";
    // Node 2 has no result, whatever its number says, so its ancestor is what must stay.
    assert_lines(
        &evict(text),
        &["evict spent, 20 B", "unload UNET, 500 B", "keep ancestor: node #3 still needs it"],
    );
}

#[test]
fn what_cannot_be_run_again_with_the_same_result_stays() {
    let text = "storages 9 9 9\nentry api (s0)\nentry plain (s1)\n\
                entry of-another-workflow unrepeatable (s2)\n\
                node 1 unrepeatable entry=0\nnode 2 entry=1\nnode me pending";
    let found = memsweep_core::plan::plan(&build::inventory(text), &build::policy(Level::Evict));
    let kept: Vec<&str> = found.kept.iter().map(|kept| kept.what.as_str()).collect();
    assert_eq!(kept, ["api", "of-another-workflow"]);
}
