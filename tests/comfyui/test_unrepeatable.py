"""What costs money or gives another result each time is not computed again for want of a cached output."""

import pytest
from extent import first
from workflows import node

CACHING = ("RAM_PRESSURE", "CLASSIC", "LRU")


@pytest.fixture(params=first(1, CACHING))
def runner(request, comfy, toys):
    return comfy.Runner(request.param)


@pytest.fixture(autouse=True)
def paid(comfy, toys, monkeypatch):
    """Marks that ComfyUI takes for a yes, and a node that becomes one with such a mark."""
    import nodes
    from comfy_execution.graph_utils import GraphBuilder
    from harness.toys import toy

    def made(name, **marks):
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, type(name, (toys.ToyStep,), marks))

    made("ToyPaid", API_NODE=True)
    made("ToyOnce", NOT_IDEMPOTENT=1)

    @toy()
    def ToyWrapped(value):
        graph = GraphBuilder()
        inside = graph.node("ToyPaid", label="paid", value=value)
        outside = graph.node("ToyStep", label="handed on", value=inside.out(0))
        return {"result": (outside.out(0),), "expand": graph.finalize()}

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyWrapped", ToyWrapped)


def behind(last, label):
    """Something that changes from prompt to prompt behind what must not run again, and a sweep."""
    return {
        "step": node("ToyStep", label=label, value=last),
        "sweep": node("MemSweepFree", anything=["step", 0], level="evict"),
        "late": node("ToyStep", label="late", value=["sweep", 0]),
        "save": node("ToySave", value=["late", 0]),
    }


def alone(kind):
    return {
        "source": node("ToySource", label="source", seed=1),
        "paid": node(kind, label="paid", value=["source", 0]),
    }


def loop():
    """Each turn hands its value on as an object, so nothing in it can be found again."""
    return {
        "source": node("ToySource", label="source", seed=1),
        "start": node("ToyLoopStart", value=["source", 0], times=3),
        "inside": node("ToyPaid", label="paid", value=["start", 1]),
        "paid": node("ToyLoopClose", flow=["start", 0], value=["inside", 0], early="no"),
    }


@pytest.mark.parametrize("kind", ["ToyPaid", "ToyOnce", "ToyWrapped"])
def test_it_runs_once_however_its_class_says_so(runner, toys, kind):
    for label in ("one", "two", "three"):
        result = runner.run(alone(kind) | behind(["paid", 0], label))
        assert result.ok, result.error
    assert toys.RUNS["paid"] == 1


def test_a_mark_that_cannot_be_asked_is_a_yes(comfy):
    class Odd:
        def __bool__(self):
            raise RuntimeError("no answer")

    is_unrepeatable = comfy.pack("comfy_host.unrepeatable").is_unrepeatable
    assert is_unrepeatable(type("Asked", (), {"API_NODE": Odd()}))
    assert not is_unrepeatable(type("Plain", (), {"API_NODE": False}))


def test_a_loop_with_it_inside_runs_once(runner, toys):
    for label in ("one", "two", "three"):
        result = runner.run(loop() | behind(["paid", 0], label))
        assert result.ok, result.error
    assert toys.RUNS["paid"] == 3


def test_a_cache_that_derives_from_comfyuis_keeps_all(comfy, toys):
    """It may have tables of its own, and others may hold the lists in it."""
    import comfy_execution.caching as caching

    runner = comfy.Runner("LRU")
    outputs = runner.executor.caches.outputs
    outputs.__class__ = type("TheirCache", (caching.LRUCache,), {})
    result = runner.run(alone("ToyStep") | behind(["paid", 0], "step"))
    assert result.ok, result.error
    [note] = [one for one in result.report("sweep")["notes"] if one["because"]["kind"] == "executor_unknown"]
    assert "TheirCache" in note["reason"]


def test_a_sweep_in_another_workflow_leaves_it(runner, toys):
    if runner.cache == "CLASSIC":
        pytest.skip("it keeps nothing of another workflow")
    other = {"source": node("ToySource", label="other", seed=2)} | behind(["source", 0], "other")
    plain = {"step": node("ToyStep", label="step", value=["paid", 0]), "save": node("ToySave", value=["step", 0])}
    for kind, runs in (("ToyPaid", 1), ("ToyWrapped", 2)):
        for _ in range(2):
            for prompt in (alone(kind) | plain, other):
                result = runner.run(prompt)
                assert result.ok, result.error
        assert toys.RUNS["paid"] == runs
