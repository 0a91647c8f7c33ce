"""Promises P1 and P2 on workflows that nobody thought of.

hypothesis draws workflows, sweeps in them and a sequence of prompts; `graphs/play.py` runs the
sequence with and without the sweeps and compares, `graphs/watch.py` looks at each sweep.
A failure prints the smallest case it could be shrunk to.

    cargo xtask test --suite graphs --cases 10000 --seed 1
"""

import os

import pytest
from extent import EXTENT, first
from graphs.hunt import hunt
from graphs.outcome import CounterExample, Tally
from harness.executor import CACHES

# In all; each cache mode plays a quarter of them, drawn from a seed of its own.
CASES = int(os.environ.get("MEMSWEEP_CASES") or {"quick": 40, "all": 120, "large": 10_000}[EXTENT])
SEED = int(os.environ.get("MEMSWEEP_SEED") or 1)
# From here on chance evens out: if fewer of the sweeps than this release something, that proves too little. Where
# nothing is cached, a sweep finds cycles, models and what nodes keep.
ENOUGH_TO_COUNT = 500
ENOUGH = {"NONE": 0.4}
FAULT_CASES = 500
pytestmark = pytest.mark.graphs
# The one that is found soonest first.
FAULTS = (
    "other executors ignored",
    "live set ignored",
    "an output node evicted",
    "protection by ids only",
    "results of an expansion forgotten",
    "hidden references ignored",
)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("cache", CACHES)
def test_sweeps_change_no_result(zoo, cache, record_property):
    tally = Tally()
    modes = len(CACHES)
    try:
        hunt(zoo, cache, -(-CASES // modes), SEED * modes + CACHES.index(cache), tally)
    finally:
        record_property("graphs", f"{cache}, seed {SEED}: {tally.line()}")
    counts = tally.counts
    # hypothesis leaves out what it has drawn before.
    assert counts["cases"] >= 0.9 * CASES / modes
    assert counts["sweeps"]
    if counts["cases"] >= ENOUGH_TO_COUNT:
        assert counts["sweeps that released something"] >= ENOUGH.get(cache, 0.5) * counts["sweeps"]
        assert counts["blocks parked"]
        assert counts["tensors destroyed"]


@pytest.mark.planted
@pytest.mark.parametrize("fault", first(1, FAULTS))
def test_a_planted_fault_is_found(zoo, fault, record_property):
    """Tests of the test: the same cases, played on a MemSweep that is broken on purpose."""
    from graphs.broken import PLANTED

    plant, words = PLANTED[fault]
    tally = Tally()
    with plant(), pytest.raises(CounterExample, match=words):
        hunt(zoo, "RAM_PRESSURE", FAULT_CASES, 1, tally, shrink=False)
    record_property("planted fault", f"{fault}: found after {tally.counts['cases'] + 1} cases")


def test_every_planted_fault_is_looked_for(zoo):
    from graphs.broken import PLANTED

    assert set(PLANTED) == set(FAULTS)


def test_destroy_really_takes_what_a_node_keeps_and_the_node_loads_it_again(zoo):
    """One case by hand, so that nobody reads the counts of a short hunt as a proof."""
    from graphs.case import Case, Spec, Sweep, Turn, Workflow
    from graphs.kinds import KINDS, SHOWS, TERMINAL

    kind = {one.node: one for one in KINDS}
    destroy = next(one for one in TERMINAL if one.widgets.get("leftovers") == "destroy")
    specs = (
        Spec(kind["ToySource"], {}, {"seed": 1, "label": "source"}),
        Spec(kind["ToyKeepClosure"], {"value": (0, 0)}, {"seed": 1}),
        Spec(kind["ToyStep"], {"value": (1, 0)}, {"label": "step"}),
        Spec(SHOWS["piece"], {"value": (2, 0)}, {"name": "show"}),
    )
    workflow = Workflow(specs, (Sweep(destroy, (2, 0), None, {}),))
    edited = Turn(0, edits=((0, "seed", 2),))
    tally = Tally()
    zoo.check(Case((workflow,), (Turn(0), edited, Turn(0)), parks=True), "CLASSIC", tally)
    assert tally.counts["tensors destroyed"] >= 2, tally.line()
