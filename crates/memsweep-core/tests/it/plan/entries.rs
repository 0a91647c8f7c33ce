//! Which cached outputs go.

use memsweep_core::action::Action;
use memsweep_core::bytes::Bytes;
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
fn a_node_that_expanded_needs_its_results_only() {
    let text = "
        storages 10 20 30 40
        entry carried (s0)
        entry last-turn (s1)
        entry of-this-turn (s2) (s3)
        node 1 entry=0
        node end pending upstream expanded=end.b.1 <- 1.0
        node end.a entry=1 parent=end
        node end.b entry=2 parent=end
        node me pending parent=end";
    assert_lines(
        &evict(text),
        &["evict carried last-turn, 30 B", "keep of-this-turn: node #end still needs it"],
    );
    let forgotten = text.replace("expanded=end.b.1 ", "expanded= ");
    assert_lines(&evict(&forgotten), &["evict carried last-turn of-this-turn, 100 B"]);
}

#[test]
fn a_node_with_the_whole_prompt_may_copy_whatever_leads_to_it() {
    let text = "
        storages 10 20 30 40 50
        model UNET cuda:0 500
        model VAE cuda:0 60
        entry loader (m0) (m1)
        entry body (s0)
        entry outside (s1)
        entry elsewhere (s2)
        entry further (s3)
        node 1 entry=0
        node 2 entry=1 <- 1.0 3.0
        node 3 entry=2 <- 4.0
        node 4 entry=4
        node 5 entry=3
        node end pending upstream <- 2.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict elsewhere, 30 B",
            "unload VAE, 60 B",
            "keep model UNET on cuda:0: node #end still needs it",
            "keep loader: node #end still needs it",
            "keep body: node #end still needs it",
            "keep outside: node #end still needs it",
            "keep further: node #end still needs it",
        ],
    );
}

#[test]
fn a_node_that_a_loop_names_may_be_copied_too() {
    let text = "
        storages 10 20
        entry read-by-the-body (s0)
        entry elsewhere (s1)
        node 1 entry=0
        node 2 entry=1
        node body <- 1.0
        node start pending upstream names=body,gone
        node me pending";
    assert_lines(
        &evict(text),
        &["evict elsewhere, 20 B", "keep read-by-the-body: node #start still needs it"],
    );
}

#[test]
fn what_no_later_prompt_can_find_need_not_feed_an_output_node() {
    let text = "
        storages 10 20 30
        entry turn unfindable (s0)
        entry input (s1)
        entry shown unfindable (s2)
        node 1 entry=0
        node 2 entry=1
        node 3 output entry=2 <- 1.0 2.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict turn, 10 B",
            "keep input: feeds output node #3 directly",
            "keep shown: an output node would run again without it",
        ],
    );
}

#[test]
fn output_nodes_of_a_body_may_be_copied_with_it() {
    let text = "
        storages 10 20 30
        entry body (s0)
        entry read-beside-it unfindable (s1)
        entry of-an-earlier-turn unfindable (s2)
        node 1 entry=0
        node 2 entry=1
        node show output <- 1.0 2.0
        node end
        node end.x entry=2 parent=end
        node end.show output parent=end <- end.x.0 1.0
        node close pending upstream <- 1.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict of-an-earlier-turn, 30 B",
            "keep body: node #close still needs it",
            "keep read-beside-it: node #close still needs it",
        ],
    );
}

#[test]
fn memory_that_equal_outputs_share_counts_once() {
    let text = "
        storages 10 20
        entry - (s0)
        entry - (s0)
        entry - (s0 s1)
        node a entry=0 Turn shown=3
        node b entry=1 Turn shown=3
        node c entry=2 Turn shown=3
        node 8 pending <- a.0 b.0 c.0
        node me pending";
    let kept = plan(&build::inventory(text), &build::policy(Level::Evict)).kept;
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].what.as_str(), kept[0].bytes), ("3 x #3 Turn", Some(Bytes(30))));
}

#[test]
fn a_loop_in_a_loop_is_copied_from_its_inputs() {
    let text = "
        storages 10 20 30
        entry first (s0)
        entry second (s1)
        entry result (s2)
        node 1 entry=0
        node 2 entry=1
        node inner.a entry=2 parent=inner
        node inner pending upstream expanded=inner.a.0 <- 1.0
        node outer pending upstream <- inner.0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict second, 20 B",
            "keep first: node #outer still needs it",
            "keep result: node #inner still needs it",
        ],
    );
}

#[test]
fn what_a_loop_leads_to_and_could_not_be_read_keeps_the_prompt() {
    let text = "
        storages 10
        entry result (s0)
        entry any (s0)
        node 1 entry=0 opaque
        node 2 entry=1
        node end pending upstream <- 1.0
        node me pending";
    assert!(evict(text).contains("keep any: node #1 is still to run and may read any output"));
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
    let text = "storages 9 9\nentry api (s0)\nentry plain (s1)\n\
                node 1 unrepeatable entry=0\nnode 2 entry=1\nnode me pending";
    let found = memsweep_core::plan::plan(&build::inventory(text), &build::policy(Level::Evict));
    let kept: Vec<&str> = found.kept.iter().map(|kept| kept.what.as_str()).collect();
    assert_eq!(kept, ["api"]);
}
