"""Nodes that read the whole prompt, and nodes that must not run again."""

import copy
import json

import numpy
import pytest
from extent import first
from harness.reports import notes
from loops import CARRIED, LOOPS
from workflows import node


def loop(sweep):
    last = ["body", 0]
    prompt = {
        "outside": node("ToyUnseeded", label="outside"),
        "start": node("ToySource", label="start", seed=1),
        "body": node("ToyMix", label="body", a=["start", 0], b=["outside", 0]),
    }
    if sweep:
        prompt["sweep"] = node("MemSweepFree", anything=last, level="evict")
        last = ["sweep", 0]
    prompt["end"] = node("ToyLoopEnd", value=last, body="body", times=2)
    prompt["save"] = node("ToySave", value=["end", 0])
    return prompt


@pytest.fixture
def fresh(toys):
    def again():
        toys.forget()
        toys.FRESH = numpy.random.default_rng(7)

    return again


@pytest.mark.parametrize("kind", ["PROMPT", "EXTRA_PNGINFO"])
def test_what_a_node_may_become_copies_of_stays_where_it_gets_the_prompt_as_queued(
    runner, comfy, toys, fresh, monkeypatch, kind
):
    import nodes
    from comfy_execution.graph_utils import GraphBuilder
    from harness.toys import ANY

    class ToyByName:
        """Becomes a node that reads what it knows by name."""

        CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": (ANY,)}, "hidden": {"given": kind, "unique_id": "UNIQUE_ID"}}

        def run(self, value, given, unique_id):
            graph = GraphBuilder()
            mixed = graph.node("ToyMix", label="mixed", a=["outside", 0], b=value)
            return {"result": (mixed.out(0),), "expand": graph.finalize()}

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyByName", ToyByName)

    def prompt(sweep):
        asked = {
            "outside": node("ToyUnseeded", label="outside"),
            "step": node("ToyStep", label="step", value=["outside", 0]),
            "sweep": node("MemSweepFree", anything=["step", 0], level="evict"),
            "named": node("ToyByName", value=["sweep" if sweep else "step", 0]),
            "save": node("ToySave", value=["named", 0]),
        }
        return {name: data for name, data in asked.items() if sweep or name != "sweep"}

    fresh()
    expected = comfy.Runner(runner.cache).run(prompt(sweep=False))
    assert expected.ok, expected.error
    fresh()
    result = runner.run(prompt(sweep=True))
    assert result.ok, result.error
    assert result.saved() == expected.saved()
    assert toys.RUNS["outside"] == (2 if runner.cache == "NONE" else 1)


def test_a_class_of_others_with_a_spec_is_not_taken_for_ours(comfy, toys):
    from harness import toy_loops

    theirs = type("Theirs", (toy_loops.ToyLoopClose,), {"SPEC": {"version": 1}})
    reads = comfy.pack("comfy_host.reads")
    assert not reads.is_ours(theirs)
    assert reads.reads_of(theirs) == "upstream"


def test_a_loop_that_is_still_to_end_keeps_what_its_next_round_reads(runner, comfy, toys, fresh):
    fresh()
    expected = comfy.Runner(runner.cache).run(loop(sweep=False))
    assert expected.ok, expected.error
    times = dict(toys.RUNS)
    fresh()
    result = runner.run(loop(sweep=True))
    assert result.ok, result.error
    assert result.saved() == expected.saved()
    assert dict(toys.RUNS) == times


@pytest.mark.parametrize("kind", first(3, LOOPS))
def test_memory_stays_flat_in_a_loop(runner, comfy, toys, kind):
    from harness import toy_loops

    if runner.cache == "NONE":
        pytest.skip("nothing is kept there")

    def peak(turns, sweep):
        toys.forget()
        memory = toy_loops.MEMORY = toy_loops.Memory()
        result = comfy.Runner(runner.cache).run(LOOPS[kind](turns, sweep))
        assert result.ok, result.error
        return memory.peak - CARRIED[kind] * turns * toys.BYTES, result

    few, _ = peak(3, sweep=True)
    many, result = peak(12, sweep=True)
    without, expected = peak(12, sweep=False)
    assert result.saved() == expected.saved()
    assert many <= 1.2 * few
    assert without > 2 * many, "this loop needs no sweep"


@pytest.mark.parametrize("kind", LOOPS)
def test_the_collector_rests_in_a_loop_however_it_is_built(comfy, toys, monkeypatch, kind):
    from memsweep import host

    runs = []
    monkeypatch.setattr(host.gc, "collect", lambda: runs.append(1) or 0)
    result = comfy.Runner("RAM_PRESSURE").run(LOOPS[kind](12, sweep=True))
    assert result.ok, result.error
    # It gives nothing back here. Once more for each 64 MiB that a turn may leave.
    assert 1 <= len(runs) <= 3


@pytest.mark.parametrize("turns", (3, 20))
def test_the_turns_of_a_loop_have_one_report(runner, toys, turns):
    result = runner.run(LOOPS["loop"](turns, sweep=True))
    assert result.ok, result.error
    shown = {node: out["memsweep"] for node, out in result.outputs.items() if "memsweep" in out}
    assert list(shown) == ["sweep"], "a copy's report stays in the history"
    report, [message] = result.report("sweep"), shown["sweep"]
    assert report["turns"] == turns
    assert f", {turns} turns: " in message["text"].splitlines()[0]
    assert runner.server.sent.count("executed") >= turns
    assert ".0." not in message["text"], "an id of ComfyUI's own is shown"
    assert len(json.dumps(result.outputs)) < 10_000


def test_a_history_that_copies_what_nodes_show_has_the_report_of_all_turns(comfy, toys, monkeypatch):
    """As that of newer ComfyUI does."""
    import execution

    if not hasattr(execution, "enrich_output_with_assets"):
        pytest.skip("the place of the copy is not in this version")
    monkeypatch.setattr(execution, "enrich_output_with_assets", copy.deepcopy)
    result = comfy.Runner("RAM_PRESSURE").run(LOOPS["loop"](3, sweep=True))
    assert result.ok, result.error
    [message] = result.outputs["sweep"]["memsweep"]
    assert result.report("sweep")["turns"] == 3
    assert result.outputs["sweep"]["text"] == [message["text"]]


def test_a_paid_result_is_not_computed_again_by_the_next_prompt(runner, toys, fresh):
    fresh()
    prompt = {
        "paid": node("ToyApi", label="paid"),
        "step": node("ToyStep", label="step", value=["paid", 0]),
        "last": node("ToyStep", label="last", value=["step", 0]),
        "save": node("ToySave", value=["last", 0]),
        "purge": node("CleanMemory_PurgeAll", anything=["last", 0]),
    }
    assert runner.run(prompt).ok
    prompt["step"]["inputs"]["label"] = "changed"
    assert runner.run(prompt).ok
    assert toys.RUNS["paid"] == (2 if runner.cache == "NONE" else 1)


def test_an_unconnected_output_passes_none_beside_a_list(runner, toys):
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "list": node("ToyList", label="list", value=["source", 0]),
        "multi": node("CleanMemory_PurgePassMultiInput", data0=["list", 0]),
        "check": node("ToyCheck", name="check", value=["multi", 0], also=["multi", 1]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error


@pytest.mark.parametrize("kind", ("none", "list"))
def test_release_model_without_a_model_releases_nothing_else(runner, toys, kind):
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "a": node("ToyStep", label="a", value=["source", 0]),
        "b": node("ToyStep", label="b", value=["a", 0]),
        "nothing": node("ToyValue", kind=kind),
        "release": node("MemSweepReleaseModel", anything=["b", 0], model=["nothing", 0]),
        "check": node("ToyCheck", name="after", value=["release", 0]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    assert not [r for r in result.report("release")["rows"] if r["action"]["kind"] == "evict"]
    assert any("no model" in note for note in notes(result.report("release")))
