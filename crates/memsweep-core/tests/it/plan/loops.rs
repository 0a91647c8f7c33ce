//! Which cached outputs go inside loops, and of nodes that became others.

use memsweep_core::bytes::Bytes;
use memsweep_core::level::Level;
use memsweep_core::plan::plan;

use super::{assert_lines, evict};
use crate::build;

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
fn what_a_loop_gave_waits_for_its_end() {
    let text = "
        storages 10 20 30
        model UNET cuda:0 500
        entry turn (s0)
        entry turn-with-more (s1) (s2)
        node 1 entry=0
        node 2 entry=1
        node 7 pending title=End_Loop
        loop 7 s0 s1 m0
        node me pending";
    assert_lines(
        &evict(text),
        &[
            "evict turn-with-more, 30 B",
            "keep model UNET on cuda:0: node #7 End Loop still needs it",
            "keep results of a loop: waits for #7 End Loop, the end of its loop",
            "keep turn: dropping it would free nothing",
        ],
    );
    let facts = build::inventory(text);
    let kept = plan(&facts, &build::policy(Level::Evict)).kept;
    assert_eq!(kept[1].bytes, Some(Bytes(30)));
    assert_eq!(kept[1].because.advice().unwrap(), "a sweep after #7 End Loop can free it");
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
