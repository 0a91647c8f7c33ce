"""What a node still to run needs is never dropped: every way in which a node can need an output."""

import pytest
from workflows import OUR_NODES, bypass, node


def sweep(source, level="evict"):
    return node("MemSweepFree", anything=source, level=level)


def source(label="source", seed=1):
    return node("ToySource", label=label, seed=seed)


# Each case: a prompt with a sweep in it, and the labels that must be alive right after it.
# "check" reads the sweep's output, so it runs directly after the sweep.
CASES = {
    "direct link": (
        {
            "source": source(),
            "other": source("other", 2),
            "a": node("ToyMix", label="a", a=["other", 0], b=["source", 0]),
            "sweep": sweep(["a", 0]),
            "mix": node("ToyMix", label="mix", a=["sweep", 0], b=["source", 0]),
            "save": node("ToySave", value=["mix", 0]),
        },
        {"source"},
    ),
    "lazy link to something already made": (
        {
            "kept": source("kept"),
            "early": node("ToyStep", label="early", value=["kept", 0]),
            "sweep": sweep(["early", 0]),
            "choose": node("ToyChoose", which="a", a=["kept", 0], b=["early", 0], after=["sweep", 0]),
            "save": node("ToySave", value=["choose", 0]),
        },
        {"kept"},
    ),
    "raw link": (
        {
            "kept": source("kept"),
            "early": node("ToyStep", label="early", value=["kept", 0]),
            "sweep": sweep(["early", 0]),
            "raw": node("ToyRaw", label="raw", link=["kept", 0], after=["sweep", 0]),
            "save": node("ToySave", value=["raw", 0]),
        },
        {"kept"},
    ),
    "identical nodes that share one entry": (
        {
            "one": source("twin"),
            "two": source("twin"),
            "early": node("ToyStep", label="early", value=["one", 0]),
            "sweep": sweep(["early", 0]),
            "late": node("ToyMix", label="late", a=["sweep", 0], b=["two", 0]),
            "save": node("ToySave", value=["late", 0]),
        },
        {"twin"},
    ),
    "list output": (
        {
            "source": source(),
            "list": node("ToyList", label="list", value=["source", 0]),
            "early": node("ToyStep", label="early", value=["list", 0]),
            "sweep": sweep(["early", 0]),
            "late": node("ToyMix", label="late", a=["sweep", 0], b=["list", 0]),
            "first": node("ToySaveList", values=["list", 0]),
            "save": node("ToySaveList", values=["late", 0]),
        },
        {"list.0", "list.1", "list.2"},
    ),
    "a list with a blocked item": (
        {
            "source": source(),
            "list": node("ToyBlockedList", label="list", value=["source", 0]),
            "sweep": sweep(["list", 0]),
            "late": node("ToyStep", label="late", value=["sweep", 0]),
            "save": node("ToySave", value=["late", 0]),
        },
        None,
    ),
    "second output of a node": (
        {
            "source": source(),
            "pair": node("ToyPair", label="pair", value=["source", 0]),
            "early": node("ToyStep", label="early", value=["pair", 0]),
            "sweep": sweep(["early", 0]),
            "late": node("ToyMix", label="late", a=["sweep", 0], b=["pair", 1]),
            "save": node("ToySave", value=["late", 0]),
        },
        {"pair.1"},
    ),
    "result of an expanded node": (
        {
            "source": source(),
            "expand": node("ToyExpand", label="expand", value=["source", 0], level="trim"),
            "early": node("ToyStep", label="early", value=["expand", 1]),
            "sweep": sweep(["early", 0]),
            "late": node("ToyMix", label="late", a=["sweep", 0], b=["expand", 0]),
            "save": node("ToySave", value=["late", 0]),
        },
        {"expand/first"},
    ),
    "a sweep inside an expansion": (
        {
            "source": source(),
            "expand": node("ToyExpand", label="expand", value=["source", 0]),
            "late": node("ToyMix", label="late", a=["expand", 0], b=["expand", 1]),
            "also": node("ToyMix", label="also", a=["late", 0], b=["source", 0]),
            "save": node("ToySave", value=["also", 0]),
        },
        None,
    ),
    "two expansions, one in the other's way": (
        {
            "source": source(),
            "one": node("ToyExpand", label="one", value=["source", 0]),
            "two": node("ToyExpand", label="two", value=["one", 1]),
            "late": node("ToyMix", label="late", a=["one", 0], b=["two", 0]),
            "save": node("ToySave", value=["late", 0]),
        },
        None,
    ),
    "an asynchronous node under way": (
        {
            "kept": source("kept"),
            "async": node("ToyAsync", label="async", value=["kept", 0]),
            "early": node("ToyStep", label="early", value=["kept", 0]),
            "sweep": sweep(["early", 0]),
            "late": node("ToyMix", label="late", a=["sweep", 0], b=["async", 0]),
            "save": node("ToySave", value=["late", 0]),
        },
        {"kept"},
    ),
    "two sweeps in one prompt": (
        {
            "source": source(),
            "a": node("ToyStep", label="a", value=["source", 0]),
            "sweep": sweep(["a", 0]),
            "b": node("ToyStep", label="b", value=["sweep", 0]),
            "again": sweep(["b", 0]),
            "late": node("ToyMix", label="late", a=["again", 0], b=["source", 0]),
            "save": node("ToySave", value=["late", 0]),
        },
        None,
    ),
}


def with_check(prompt):
    checked = {name: {**data, "inputs": dict(data["inputs"])} for name, data in prompt.items()}
    if "sweep" in checked:
        checked["check"] = node("ToyCheck", name="right after", value=["sweep", 0])
    return checked


def oracle_of(prompt):
    """The same prompt without sweeps: those inside an expansion only trim."""
    plain = bypass(prompt)
    for data in plain.values():
        if data["class_type"] == "ToyExpand":
            data["inputs"]["level"] = "trim"
    return plain


@pytest.mark.parametrize("case", CASES)
def test_what_is_still_needed_stays_and_is_not_computed_twice(runner, comfy, toys, case):
    prompt, must_live = CASES[case]
    prompt = with_check(prompt)
    oracle = comfy.Runner(runner.cache).run(oracle_of(prompt))
    assert oracle.ok, oracle.error
    runs_without = dict(toys.RUNS)
    alive_without = toys.SEEN_ALIVE.get("right after", set())
    if must_live is not None and runner.cache != "NONE":
        assert must_live <= alive_without, "the case proves nothing"
    toys.forget()

    result = runner.run(prompt)
    assert result.ok, result.error
    assert result.saved() == oracle.saved()
    assert dict(toys.RUNS) == runs_without, "something was computed again in the same prompt"
    if must_live is not None:
        # Without a cache ComfyUI itself drops some of it; that is not ours to keep.
        assert must_live & alive_without <= toys.SEEN_ALIVE["right after"]
    runner.check_side_tables()


@pytest.mark.parametrize("case", CASES)
def test_later_prompts_are_right_too(runner, comfy, toys, case):
    prompt = with_check(CASES[case][0])
    oracle = comfy.Runner(runner.cache).run(oracle_of(prompt)).saved()
    for _ in range(2):
        result = runner.run(prompt)
        assert result.ok, result.error
        assert result.saved() == oracle
        # The same graph without the output nodes' entries: everything upstream is asked for again.
        extra = {**prompt, "extra": node("ToySave", value=first_made(prompt))}
        result = runner.run(extra)
        assert result.ok, result.error
        assert {k: v for k, v in result.saved().items() if k != "extra"} == oracle


def first_made(prompt):
    return next([name, 0] for name, data in prompt.items() if data["class_type"] == "ToySource")


def test_each_pass_through_node_gives_the_very_object_it_got(runner, toys):
    """Identity, not equality, for every key and every slot of the multi node."""
    for kind, ours in OUR_NODES.items():
        if ours.terminal:
            continue
        inputs = {}
        if kind.startswith("FreeMemory"):
            inputs = {"aggressive": True}
        elif kind == "MemSweepFree":
            inputs = {"level": "evict"}
        elif kind.startswith("CleanMemory"):
            inputs = {"mode": "RAM"}
        prompt = {}
        for i, name in enumerate(ours.passes):
            prompt[f"source{i}"] = source(f"{kind}{i}", i)
            prompt[f"remember{i}"] = node("ToyRemember", name=f"{kind}{i}", values=[f"source{i}", 0])
            inputs[name] = [f"remember{i}", 0]
            prompt[f"same{i}"] = node("ToySame", name=f"{kind}{i}", values=["ours", i])
        if kind == "MemSweepReleaseModel":
            prompt["model"] = node("ToyModel", label="released")
            inputs["model"] = ["model", 0]
        prompt["ours"] = node(kind, **inputs)
        result = runner.run(prompt)
        assert result.ok, f"{kind}: {result.error}"
        for i in range(len(ours.passes)):
            assert result.outputs[f"same{i}"]["saved"] == [True], f"{kind}, output {i}"
        assert isinstance(result.report("ours"), dict)


def test_a_list_is_swept_once_and_passed_item_by_item(runner, toys):
    prompt = {
        "source": source(),
        "list": node("ToyList", label="list", value=["source", 0]),
        "remember": node("ToyRemember", name="list", values=["list", 0]),
        "sweep": sweep(["remember", 0]),
        "same": node("ToySame", name="list", values=["sweep", 0]),
        "save": node("ToySaveList", values=["sweep", 0]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    assert len(result.outputs["sweep"]["memsweep"]) == 1
    assert result.outputs["same"]["saved"] == [True]
    assert len(result.outputs["save"]["saved"]) == 3


def test_terminal_nodes_run_on_every_queue(runner, toys):
    prompt = {
        "source": source(),
        "sweep": node("CleanMemory_PurgeAll", anything=["source", 0]),
        "save": node("ToySave", value=["source", 0]),
    }
    for _ in range(3):
        result = runner.run(prompt)
        assert result.ok, result.error
        assert "sweep" not in result.cached
        assert result.report("sweep")["schema"] == 2


def test_a_pass_through_node_with_unchanged_input_does_not_run_again(comfy, toys):
    runner = comfy.Runner("CLASSIC")
    prompt = {"source": source(), "sweep": sweep(["source", 0]), "save": node("ToySave", value=["sweep", 0])}
    assert runner.run(prompt).ok
    again = runner.run(prompt)
    assert again.ok
    assert "save" in again.cached
    assert toys.RUNS["source"] == 1
