"""Loops as packs build them: what a loop's end reads is not always what it is linked to."""

import numpy
import pytest
from extent import first
from loops import LOOPS
from workflows import node


class Odd:
    """Never the same, and of no kind that a cache key can hold."""


@pytest.fixture
def classic(comfy, toys):
    return comfy.Runner("CLASSIC")


@pytest.fixture
def odd_source(toys, monkeypatch):
    """A node that gives something else each time; no later prompt can find what it gave."""
    import nodes

    class ToyOdd(toys.ToyUnseeded):
        @classmethod
        def IS_CHANGED(cls, **_):
            return Odd()

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyOdd", ToyOdd)


def loop(close, source, sweep, shows=False):
    prompt = {
        "0": node("ToySource", label="source", seed=1),
        "outside": node(source, label="outside"),
        "start": node("ToyLoopStart", value=["0", 0], times=4),
    }
    if shows:
        prompt["body"] = node("ToyView", label="body", value=["start", 1])
        prompt["show"] = node("ToyShowTwo", a=["body", 0], b=["outside", 0])
    else:
        prompt["body"] = node("ToyMix", label="body", a=["start", 1], b=["outside", 0])
    last = ["body", 0]
    if sweep:
        prompt["sweep"] = node("MemSweepFree", anything=last, level="evict")
        last = ["sweep", 0]
    prompt["close"] = node(close, flow=["start", 0], value=last, early="no")
    prompt["save"] = node("ToySave", value=["close", 0])
    return prompt


@pytest.mark.parametrize("cache", first(1, ("RAM_PRESSURE", "CLASSIC", "LRU")))
@pytest.mark.parametrize(
    ("close", "source", "shows"),
    (
        ("ToyForClose", "ToyUnseeded", False),
        ("ToyCloseWithOutputs", "ToyUnseeded", True),
        ("ToyCloseWithOutputs", "ToyOdd", True),
    ),
)
def test_what_the_next_turns_read_stays(comfy, toys, odd_source, cache, close, source, shows):
    def played(sweep):
        toys.forget()
        toys.FRESH = numpy.random.default_rng(7)
        result = comfy.Runner(cache).run(loop(close, source, sweep, shows))
        assert result.ok, result.error
        return sorted(result.saved().values()), toys.RUNS["outside"]

    assert played(sweep=True) == played(sweep=False)


def test_the_text_in_the_history_is_that_of_all_turns(classic):
    result = classic.run(LOOPS["loop"](5, sweep=True))
    assert result.outputs["sweep"]["text"] == [result.outputs["sweep"]["memsweep"][0]["text"]]


def test_two_nodes_that_go_by_one_name_are_not_turns(classic):
    prompt = {
        "0": node("ToySource", label="source", seed=1),
        "twice": node("ToyTwoSweeps", value=["0", 0], level="both"),
        "save": node("ToySave", value=["twice", 0]),
    }
    result = classic.run(prompt)
    assert result.ok, result.error
    reports = [result.report(name) for name, out in result.outputs.items() if "memsweep" in out]
    assert [report["level"] for report in reports] == ["trim", "evict"]
    assert all("turns" not in report for report in reports)


def test_a_node_that_runs_again_in_its_prompt_still_shows_its_report(comfy, toys):
    """Its output went, and somebody needs it after all: it sweeps no second time."""
    import nodes

    instance = nodes.NODE_CLASS_MAPPINGS["MemSweepFree"]()
    prompt = type("Prompt", (), {})()

    def run(items):
        assert instance.INPUT_IS_LIST is False
        return [instance.run(anything=1, level="trim", unique_id="1", dynprompt=prompt)["ui"] for _ in range(items)]

    first, second = run(2)
    assert first["memsweep"][0]["report"] and second == {"text": (), "memsweep": ()}
    assert run(1) == [first]


def test_an_output_that_is_counted_from_the_end_is_a_link(comfy):
    links = comfy.pack("comfy_host.executor")._links
    assert [link["source"] for link in links([["a", 0], ["b", -1], ["c", "x"], 3])] == ["a", "b"]
    assert list(links([["b", -1]]))[0]["slot"] == 2**32 - 1


def test_nothing_of_a_prompt_is_remembered(comfy, classic, toys):
    import gc

    for seed in range(3):
        prompt = LOOPS["loop"](3, sweep=True)
        prompt["0"]["inputs"]["seed"] = seed
        assert classic.run(prompt).ok
    gc.collect()
    # The executor keeps its last prompt.
    assert len(comfy.pack("turns")._OF_PROMPT) <= 1
