"""What the executor holds beside its cache and our inputs: results that are not complete yet."""

import asyncio

import pytest
from extent import first, thorough
from harness.reports import unpacked
from workflows import node

SIZE = 2**20


@pytest.fixture(autouse=True)
def toy_nodes(comfy, toys, monkeypatch):
    import nodes
    import torch
    from comfy_execution.graph_utils import GraphBuilder
    from harness.toys import ANY, digest, toy

    @toy(outputs=(ANY, ANY))
    def ToyHalf(value, how):
        """One result at once, the other from nodes that it becomes; one of those sweeps."""
        graph = GraphBuilder()
        step = graph.node("ToyStep", label="inside", value=value)
        graph.node("CleanMemory_PurgeAll", anything=step.out(0), leftovers=how)
        return {"result": (torch.full((SIZE,), 3.0), step.out(0)), "expand": graph.finalize()}

    class ToyOneByOne:
        """Asynchronous, for each item of a list: the first is done long before the second."""

        CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": (ANY,)}}

        async def run(self, value):
            if not SECOND:
                SECOND.append(1)
                return (torch.full((SIZE,), 5.0),)
            while not SWEPT:
                await asyncio.sleep(0.001)
            return (torch.full((SIZE,), 7.0),)

    @toy(output=True)
    def ToyDigestAll(value):
        return {"ui": {"saved": [digest(value)]}}

    @toy()
    def ToySwept(value):
        SWEPT.append(1)
        return (value,)

    for one in (ToyHalf, ToyOneByOne, ToyDigestAll, ToySwept):
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, one.__name__, one)
    SECOND.clear()
    SWEPT.clear()


SECOND: list = []
SWEPT: list = []


def rows(result, kind):
    for output in result.outputs.values():
        for found in output.get("memsweep", ()):
            yield from (row for row in unpacked(found)["rows"] if row["action"]["kind"] == kind)


@pytest.mark.parametrize("cache", first(1, ("RAM_PRESSURE", "CLASSIC")))
def test_the_ready_half_of_an_expanding_node_is_not_destroyed(comfy, toys, cache):
    def prompt(how):
        return {
            "source": node("ToySource", label="source", seed=1),
            "half": node("ToyHalf", value=["source", 0], how=how),
            "one": node("ToyDigestAll", value=["half", 0]),
            "two": node("ToyDigestAll", value=["half", 1]),
        }

    expected = comfy.Runner(cache).run(prompt("park")).saved()
    result = comfy.Runner(cache).run(prompt("destroy"))
    assert result.ok, result.error
    assert list(rows(result, "destroy"))
    assert result.saved() == expected


@thorough
@pytest.mark.parametrize("cache", ("RAM_PRESSURE", "CLASSIC"))
def test_the_ready_items_of_an_asynchronous_node_are_not_destroyed(comfy, toys, cache):
    def prompt(how):
        return {
            "list": node("ToyList", label="list", value=["source", 0]),
            "source": node("ToySource", label="source", seed=1),
            "slow": node("ToyOneByOne", value=["list", 0]),
            "other": node("ToySource", label="other", seed=2),
            "sweep": node("MemSweepFree", anything=["other", 0], level="evict"),
            "purge": node("CleanMemory_PurgeAll", anything=["sweep", 0], leftovers=how),
            "swept": node("ToySwept", value=["purge", 0]),
            "after": node("ToyDigestAll", value=["swept", 0]),
            "save": node("ToyDigestAll", value=["slow", 0]),
        }

    expected = comfy.Runner(cache).run(prompt("park")).saved()["save"]
    SECOND.clear()
    SWEPT.clear()
    result = comfy.Runner(cache).run(prompt("destroy"))
    assert result.ok, result.error
    assert list(rows(result, "destroy"))
    assert result.saved()["save"] == expected


@pytest.mark.parametrize("how", ["park", "destroy"])
def test_what_a_loop_gave_is_named_and_waits_for_its_end(comfy, toys, how):
    """ComfyUI's own loops hand over all turns at once: here a node does so for one that is still to run."""
    import torch
    from harness.executor import executor_locals

    def give():
        executor_locals()["execution_list"].externalBlockResults = {"save": [[torch.full((SIZE,), 3.0)], [turns[0]]]}

    turns = [torch.full((SIZE,), 5.0)]
    toys.ARMED["give"] = give
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "given": node("ToyArm", value=["source", 0], name="give"),
        "sweep": node("CleanMemory_PurgeAll", anything=["given", 0], leftovers=how),
        "late": node("ToyStep", label="late", value=["given", 0]),
        "save": node("ToyDigestAll", value=["late", 0]),
    }
    result = comfy.Runner("RAM_PRESSURE").run(prompt)
    assert result.ok, result.error
    [row] = [row for row in result.report("sweep")["kept"] if row["because"]["kind"] == "loop_result"]
    assert row["because"]["node"] == "#save ToyDigestAll"
    assert row["bytes"] == 2 * 4 * SIZE
    assert "- results of a loop (8.0 MiB): waits for #save ToyDigestAll" in result.text("sweep")
    assert float(turns[0][0]) == 5.0


def test_an_asynchronous_node_of_our_own_prompt_keeps_the_model_it_samples_with(comfy, toys, faults, monkeypatch):
    """Also where the executor is not recognised, and its links protect nothing."""
    import nodes
    from harness import midway
    from harness.toys import toy

    for name, one in midway.TOYS.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, one)
    assumptions = comfy.pack("comfy_host.assumptions")

    @toy()
    def ToyRelease(value):
        midway.STOPS["here"].go_on.set()
        return (value,)

    @toy()
    def ToyReached(value):
        assert midway.STOPS["here"].reached.is_set(), "the sampler is not in the middle of its work"
        return (value,)

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyRelease", ToyRelease)
    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyReached", ToyReached)

    def prompt(sweep):
        return {
            "source": node("ToySource", label="mine", seed=7),
            "model": node("ToyPatched", label="theirs", seed=5),
            "sample": node("ToyMidwayAsync", model=["model", 0], value=["source", 0], stop="here"),
            "digest": node("ToyDigest", value=["sample", 0]),
            "other": node("ToySource", label="other", seed=8),
            "wait": node("ToyAsync", value=["other", 0], label="slow"),
            "reached": node("ToyReached", value=["wait", 0]),
            **({"sweep": node("MemSweepFree", anything=["reached", 0], level="unload")} if sweep else {}),
            "release": node("ToyRelease", value=["sweep" if sweep else "reached", 0]),
            "end": node("ToyDigest", value=["release", 0]),
        }

    midway.STOPS["here"] = midway.Stop()
    expected = comfy.Runner("CLASSIC").run(prompt(sweep=False)).saved()
    monkeypatch.setattr(assumptions, "missing", lambda: {assumptions.Off.OUTPUTS: ("this and that",)})
    midway.STOPS["here"] = midway.Stop()
    result = comfy.Runner("CLASSIC").run(prompt(sweep=True))
    assert result.ok, result.error
    kept = [row["because"] for row in result.report("sweep")["kept"]]
    assert {"kind": "in_use", "by": "an asynchronous node"} in kept
    assert result.saved() == expected
    midway.STOPS.clear()
