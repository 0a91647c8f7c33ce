"""What is connected is not touched, however it is wrapped; everything else leaves."""

import pytest
from harness.toys_names import HOLDERS
from workflows import node

UNLOADING = {
    "MemSweepFree": {"level": "unload"},
    "CleanMemory_PurgePass": {"mode": "VRAM"},
}


@pytest.fixture
def classic(comfy, toys):
    return comfy.Runner("CLASSIC")


def two_models(kind):
    """A model held in some way and connected to the sweep, and one that is not connected."""
    return {
        "mine": node("ToyModel", label="connected"),
        "other": node("ToyModel", label="idle"),
        "first": node("ToyLoaded", value=["mine", 0], also=["other", 0]),
        "hold": node("ToyHold", kind=kind, value=["mine", 0]),
        # Both models must be loaded before the sweep runs.
        "both": node("ToyFour", a=["hold", 0], b=["other", 0], c=["hold", 0], d=["hold", 0]),
    }


@pytest.mark.parametrize("kind", HOLDERS)
@pytest.mark.parametrize("key", UNLOADING)
def test_a_connected_model_stays_loaded_and_the_other_leaves(classic, toys, key, kind):
    prompt = two_models(kind)
    passed = "anything" if key == "MemSweepFree" else "data"
    prompt["sweep"] = node(key, **{passed: ["both", 0]}, **UNLOADING[key])
    prompt["after"] = node("ToyLoaded", value=["sweep", 0])
    result = classic.run(prompt)
    assert result.ok, result.error
    assert result.outputs["first"]["loaded"] == ["connected", "idle"]
    assert result.outputs["after"]["loaded"] == ["connected"]
    # Leaving the device is not the same as being destroyed.
    assert toys.alive() == {"connected", "idle"}


@pytest.mark.parametrize("kind", HOLDERS)
def test_connected_tensors_are_bit_for_bit_the_same_after_the_strongest_sweep(runner, toys, kind):
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "before": node("ToySave", value=["source", 0]),
        "hold": node("ToyHold", kind=kind, value=["source", 0]),
        "sweep": node("MemSweepFree", anything=["hold", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
        "take": node("ToyTake", kind=kind, value=["sweep", 0]),
        "after": node("ToySave", value=["take", 0]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    assert toys.SEEN_ALIVE["right after"] == {"source"}
    assert result.outputs["after"] == result.outputs["before"]


def test_every_slot_of_the_multi_node_protects_and_their_order_does_not_matter(classic, toys):
    import itertools

    for order in itertools.permutations(("hold", "second", "third")):
        prompt = two_models("closure")
        prompt["second"] = node("ToyValue", kind="none")
        prompt["third"] = node("ToyValue", kind="text")
        data = {f"data{i}": [name, 0] for i, name in enumerate(order)}
        prompt["sweep"] = node("CleanMemory_PurgePassMultiInput", mode="VRAM", data3=["both", 2], **data)
        prompt["after"] = node("ToyLoaded", value=["sweep", 0])
        result = classic.run(prompt)
        assert result.ok, result.error
        assert result.outputs["after"]["loaded"] == ["connected"], order
        classic.reset()


def test_a_million_deep_list_is_no_problem(classic, toys):
    prompt = {
        "mine": node("ToyModel", label="connected"),
        "other": node("ToyModel", label="idle"),
        "first": node("ToyLoaded", value=["mine", 0], also=["other", 0]),
        "deep": node("ToyDeep", depth=1_000_000, value=["mine", 0]),
        "both": node("ToyFour", a=["deep", 0], b=["other", 0], c=["deep", 0], d=["deep", 0]),
        "sweep": node("MemSweepFree", anything=["both", 0], level="evict"),
        "after": node("ToyLoaded", value=["sweep", 0]),
    }
    result = classic.run(prompt)
    assert result.ok, result.error
    assert result.outputs["after"]["loaded"] == ["connected"]


def test_by_output_slot_a_model_that_only_a_finished_node_needed_leaves(classic, toys):
    prompt = {
        "pair": node("ToyTwoModels", first="used", second="needed later"),
        "use": node("ToyLoaded", value=["pair", 0]),
        "early": node("ToyFour", a=["pair", 0], b=["use-value", 0], c=["use-value", 0], d=["use-value", 0]),
        "use-value": node("ToyValue", kind="number"),
        "sweep": node("MemSweepFree", anything=["early", 1], level="unload"),
        "after": node("ToyLoaded", value=["sweep", 0]),
        "late": node("ToyFour", a=["sweep", 0], b=["pair", 1], c=["sweep", 0], d=["sweep", 0]),
        "last": node("ToyLoaded", value=["late", 1]),
    }
    result = classic.run(prompt)
    assert result.ok, result.error
    assert result.outputs["use"]["loaded"] == ["needed later", "used"]
    assert result.outputs["after"]["loaded"] == ["needed later"]


def test_release_model_takes_one_model_out_of_memory_and_leaves_the_other(classic, toys):
    prompt = {
        "mine": node("ToyModel", label="released"),
        "other": node("ToyModel", label="kept"),
        "first": node("ToyLoaded", value=["mine", 0], also=["other", 0]),
        "number": node("ToyValue", kind="number"),
        "both": node("ToyFour", a=["number", 0], b=["other", 0], c=["mine", 0], d=["number", 0]),
        "sweep": node("MemSweepReleaseModel", anything=["both", 0], model=["mine", 0]),
        "after": node("ToyLoaded", value=["sweep", 0]),
    }
    result = classic.run(prompt)
    assert result.ok, result.error
    assert result.outputs["first"]["loaded"] == ["kept", "released"]
    assert result.outputs["after"]["loaded"] == ["kept"]

    # The loader's output is not in the cache any more: whoever asks for it gets a new model.
    toys.RUNS.clear()
    again = classic.run({**prompt, "more": node("ToyLoaded", value=["mine", 0], also=["sweep", 0])})
    assert again.ok, again.error
    assert toys.RUNS["released"] == 1
    assert toys.RUNS["kept"] == 0
