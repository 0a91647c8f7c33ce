"""Outputs that nothing needs any more are really gone, for every cache class.

The proof is a weak reference to the memory behind each tensor, checked inside the
prompt at the place right after the sweep.
"""

import pytest
from extent import first
from workflows import node

CACHING = ("RAM_PRESSURE", "CLASSIC", "LRU")


@pytest.fixture(params=first(2, CACHING))
def runner(request, comfy, toys):
    return comfy.Runner(request.param)


def chain(seed=1, name=""):
    """source, a, b: each with a tensor of its own."""
    return {
        "source": node("ToySource", label=f"source{name}", seed=seed),
        "a": node("ToyStep", label=f"a{name}", value=["source", 0]),
        "b": node("ToyStep", label=f"b{name}", value=["a", 0]),
    }


def swept_chain():
    """The sweep sits between b and c; c feeds the output node."""
    return {
        **chain(),
        "sweep": node("MemSweepFree", anything=["b", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
        "c": node("ToyStep", label="c", value=["sweep", 0]),
        "d": node("ToyStep", label="d", value=["c", 0]),
        "save": node("ToySave", value=["d", 0]),
    }


def evicted_bytes(report):
    rows = [row for row in report["rows"] if row["action"]["kind"] == "evict"]
    return sum(row["estimated"] or 0 for row in rows)


def test_entries_of_this_prompt_are_gone_right_after_the_sweep(runner, toys):
    result = runner.run(swept_chain())
    assert result.ok, result.error
    assert toys.SEEN_ALIVE["right after"] == {"b"}
    assert evicted_bytes(result.report("sweep")) == pytest.approx(2 * toys.BYTES, rel=0.05)
    runner.check_side_tables()


def test_without_the_sweep_they_would_still_be_there(runner, toys):
    prompt = swept_chain()
    prompt["check"]["inputs"]["value"] = prompt["c"]["inputs"]["value"] = ["b", 0]
    del prompt["sweep"]
    assert runner.run(prompt).ok
    assert toys.SEEN_ALIVE["right after"] == {"source", "a", "b"}


def test_entries_of_an_earlier_prompt_are_gone_right_after_the_sweep(runner, toys):
    first = {**chain(), "save": node("ToySave", value=["b", 0])}
    assert runner.run(first).ok
    assert toys.alive() == {"source", "a", "b"}

    second = {
        **first,
        "sweep": node("MemSweepFree", anything=["b", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
    }
    result = runner.run(second)
    assert result.ok, result.error
    # They were cached when the prompt began, so the executor held them in one more place.
    assert {"source", "a", "b"} <= result.cached
    assert toys.SEEN_ALIVE["right after"] == {"b"}
    runner.check_side_tables()


def test_entries_of_another_workflow_are_gone_too(runner, toys):
    other = {**chain(seed=9, name="-other"), "save": node("ToySave", value=["b", 0])}
    assert runner.run(other).ok
    assert len(toys.alive()) == 3
    result = runner.run({f"x{name}": renamed(data) for name, data in swept_chain().items()})
    assert result.ok, result.error
    assert toys.SEEN_ALIVE["right after"] == {"b"}
    runner.check_side_tables()


def renamed(data):
    inputs = {k: [f"x{v[0]}", v[1]] if isinstance(v, list) else v for k, v in data["inputs"].items()}
    return {**data, "inputs": inputs}


def test_a_terminal_sweep_evicts_as_well(runner, toys):
    prompt = {
        **chain(),
        "sweep": node("CleanMemory_PurgeAll", anything=["b", 0]),
        "d": node("ToyStep", label="d", value=["b", 0]),
        "e": node("ToyStep", label="e", value=["d", 0]),
        "save": node("ToySave", value=["e", 0]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    # An output node runs as soon as it can: after it only b was needed.
    assert not {"source", "a"} & toys.alive()


def test_output_nodes_and_what_feeds_them_directly_stay(runner, toys):
    # ComfyUI runs an output node as soon as it can: save is done before late begins.
    prompt = {
        **chain(),
        "save": node("ToySave", value=["b", 0]),
        "late": node("ToyStep", label="late", value=["b", 0]),
        "sweep": node("MemSweepFree", anything=["late", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
    }
    assert runner.run(prompt).ok
    assert "b" in toys.SEEN_ALIVE["right after"]
    assert not {"source", "a"} & toys.SEEN_ALIVE["right after"]

    runs = dict(toys.RUNS)
    again = runner.run(prompt)
    assert again.ok
    assert "save" in again.cached
    assert "b" in again.cached
    assert dict(toys.RUNS) == runs, "an identical queue computed something again"


def test_storage_shared_by_two_entries_is_counted_once(runner, toys):
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "view": node("ToyView", label="view", value=["source", 0]),
        "other view": node("ToyView", label="other view", value=["view", 0]),
        "small": node("ToyMix", label="mix", a=["view", 0], b=["other view", 0]),
        "sweep": node("MemSweepFree", anything=["small", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
        "save": node("ToySave", value=["sweep", 0]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    assert toys.SEEN_ALIVE["right after"] == {"mix"}
    assert evicted_bytes(result.report("sweep")) == pytest.approx(toys.BYTES, rel=0.05)


def test_storage_that_a_kept_entry_shares_is_not_counted_at_all(runner, toys):
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "view": node("ToyView", label="view", value=["source", 0]),
        "sweep": node("MemSweepFree", anything=["view", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
        "save": node("ToySave", value=["sweep", 0]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    # The connected view keeps the memory: dropping the source's entry frees nothing.
    assert toys.SEEN_ALIVE["right after"] == {"source"}
    assert evicted_bytes(result.report("sweep")) < toys.BYTES * 0.05


@pytest.mark.parametrize("level", ("trim", "collect", "unload"))
def test_lower_levels_evict_nothing(runner, toys, level):
    prompt = swept_chain()
    prompt["sweep"]["inputs"]["level"] = level
    result = runner.run(prompt)
    assert result.ok, result.error
    assert result.report("sweep")["level"] == level
    assert toys.SEEN_ALIVE["right after"] == {"source", "a", "b"}


def test_memsweep_itself_keeps_nothing_alive(runner, toys):
    import gc

    assert runner.run(swept_chain()).ok
    runner.reset()
    gc.collect()
    assert toys.alive() == set()


def test_the_next_prompt_computes_what_was_dropped_and_gets_the_same_result(runner, toys):
    first = runner.run(swept_chain())
    changed = swept_chain()
    changed["extra"] = node("ToyStep", label="extra", value=["a", 0])
    changed["save2"] = node("ToySave", value=["extra", 0])
    second = runner.run(changed)
    assert second.ok, second.error
    assert second.saved()["save"] == first.saved()["save"]
    assert toys.RUNS["a"] == 2
