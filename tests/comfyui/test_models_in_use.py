"""A model that somebody outside this prompt is computing with is not unloaded, and the report says who.

An unload takes the patches out of the weights. Whoever is in the middle of sampling would continue with
weights other than it began with, and get a different result without an error.
"""

import asyncio
import sys
import threading
import uuid

import pytest
from harness.executor import Runner, pack
from workflows import node

SECOND = "second executor"


# Where nothing is cached, our own model is gone before the sweep.
@pytest.fixture(params=("RAM_PRESSURE", "CLASSIC"))
def start(request, comfy, toys):
    """Makes an executor. pytest's own call would hold one that came as an argument, unseen."""
    return lambda: comfy.Runner(request.param)


@pytest.fixture
def midway(comfy, toys, faults, monkeypatch):
    import nodes
    from harness import midway as module

    for name, toy in module.TOYS.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, toy)
    module.STOPS.clear()
    module.INNER.clear()
    yield module
    module.STOPS.clear()
    module.INNER.clear()


def sampling(stop="", kind="ToyMidway"):
    """A prompt that samples with a patched model."""
    return {
        "source": node("ToySource", label="mine", seed=7),
        "model": node("ToyPatched", label="theirs", seed=5),
        "sample": node(kind, model=["model", 0], value=["source", 0], stop=stop),
        "digest": node("ToyDigest", value=["sample", 0]),
    }


def sweeping(seed=1):
    """A prompt with a model of its own, that nothing needs any more when the sweep runs."""
    return {
        "source": node("ToySource", label="source", seed=seed),
        "model": node("ToyPatched", label="ours", seed=1),
        "used": node("ToyApply", label="used", model=["model", 0], value=["source", 0]),
        "sweep": node("MemSweepFree", anything=["used", 0], level="unload"),
        "save": node("ToySave", value=["sweep", 0]),
    }


def loaded():
    import comfy.model_management as management

    return sorted(m.model.model.label for m in management.current_loaded_models if m.model is not None)


def unloads(report):
    return [row for row in report["rows"] if row["action"]["kind"] == "unload"]


def reasons(report):
    """Who keeps which model."""
    return [kept["because"] for kept in report["kept"] if "model ToyNetwork " in kept["what"]]


@pytest.mark.parametrize("level", ("unload", "evict", "park", "PurgeVRAM", "PurgeAll"))
def test_a_model_that_a_second_executor_samples_with_keeps_its_patches(midway, start, level):
    runner = start()
    expected = Runner("CLASSIC").run(sampling()).outputs["digest"]["saved"]
    stop = midway.STOPS["here"] = midway.Stop()
    second = Runner("CLASSIC")
    prompt = sweeping()
    if level.startswith("Purge"):
        prompt["sweep"] = node(f"CleanMemory_{level}", anything=["used", 0])
        prompt["save"] = node("ToySave", value=["used", 0])
    else:
        prompt["sweep"]["inputs"]["level"] = level
    with midway.running(SECOND, lambda: second.run(sampling("here")), stop) as answer:
        result = runner.run(prompt)
        assert result.ok, result.error
        report = result.report("sweep")
        assert loaded() == ["theirs"]
        assert reasons(report) == [{"kind": "in_use", "by": f"thread '{SECOND}'"}]
    assert answer["result"].outputs["digest"]["saved"] == expected


class Guider:
    """What samplers wrap a model in."""

    def __init__(self, patcher):
        self.inner = {"model_patcher": patcher}


HELD = {
    "the patcher": lambda patcher: patcher,
    "a clone of it": lambda patcher: patcher.clone(),
    "the network": lambda patcher: patcher.model,
    "one layer": lambda patcher: patcher.model.layer,
    "something around it": Guider,
    "a function over it": lambda patcher: lambda: patcher,
}


@pytest.mark.parametrize("held", HELD)
def test_a_model_in_a_variable_of_another_thread_stays(midway, comfy, held):
    import comfy.model_management as management

    runner = comfy.Runner("CLASSIC")
    prompt = sweeping()
    assert runner.run({**prompt, "sweep": node("ToyView", label="view", value=["used", 0])}).ok
    # In a list, so that only the thread's variable holds it from there on.
    stop, box = midway.Stop(), [loaded.model for loaded in management.current_loaded_models]

    def hold():
        local = HELD[held](box.pop())
        stop.wait()
        return local is not None

    with midway.running("holder", hold, stop):
        result = runner.run(sweeping(seed=2))
        assert result.ok, result.error
        assert loaded() == ["ours"]
        assert reasons(result.report("sweep")) == [{"kind": "in_use", "by": "thread 'holder'"}]
    # Nobody holds it any more.
    result = runner.run(sweeping(seed=3))
    assert loaded() == [] and reasons(result.report("sweep")) == []


def test_threads_that_hold_no_model_keep_none_in_any_prompt(midway, start):
    """Nor does what the event loop still holds of outputs that were found in the cache."""
    runner = start()
    stop = midway.Stop()
    with midway.running("bystander", stop.wait, stop):
        for seed in (1, 2, 3):
            result = runner.run(sweeping(seed=seed))
            assert result.ok, result.error
            assert reasons(result.report("sweep")) == []
            assert loaded() == []


def test_nor_does_a_pack_that_wraps_the_executor(midway, comfy, monkeypatch):
    """Its call holds the executor among its arguments, and with it every cached output."""
    import execution

    original = execution.PromptExecutor.execute
    monkeypatch.setattr(
        execution.PromptExecutor, "execute", lambda *given, **named: original(*given, **named)
    )
    runner, stop = comfy.Runner("CLASSIC"), midway.Stop()
    with midway.running("bystander", stop.wait, stop):
        assert reasons(runner.run(sweeping()).report("sweep")) == []
    assert loaded() == []


def test_only_threads_that_may_be_computing_are_looked_into(midway, comfy, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    others = next(m for n, m in sys.modules.items() if n.endswith("comfy_host.others"))
    held, found = others._held_by_frames, []
    monkeypatch.setattr(
        others, "_held_by_frames", lambda hosting: found.append(held(hosting)) or found[-1]
    )
    # Another test's pack may have left a thread that holds something.
    strangers = {f"thread {thread.name!r}" for thread in threading.enumerate()}

    def new(rows):
        return [who for who, _ in rows if who not in strangers]

    runner = comfy.Runner("CLASSIC")
    with ThreadPoolExecutor(2) as pool:
        pool.submit(threading.get_ident).result()
        timer = threading.Timer(midway.WAIT, print)
        timer.daemon = True
        timer.start()
        assert runner.run(sweeping()).ok
        timer.cancel()
    assert found
    assert not any(map(new, found))
    stop = midway.Stop()
    with midway.running("busy", stop.wait, stop):
        assert runner.run(sweeping(seed=2)).ok
    assert new(found[-1]) == ["thread 'busy'"]
    found.clear()


def test_a_model_in_use_is_not_released_by_name_and_neither_is_its_loader(midway, start):
    runner = start()
    prompt = sweeping()
    prompt["sweep"] = node("MemSweepReleaseModel", anything=["used", 0], model=["model", 0])
    first = {**prompt, "sweep": node("ToyView", label="view", value=["used", 0])}
    assert runner.run(first).ok
    import comfy.model_management as management

    stop, box = midway.Stop(), [m.model for m in management.current_loaded_models]

    def hold():
        local = box.pop()
        stop.wait()
        return local

    with midway.running("holder", hold, stop):
        result = runner.run(prompt)
        assert result.ok, result.error
        report = result.report("sweep")
        assert loaded() == ["ours"] and unloads(report) == []
        assert not [row for row in report["rows"] if row["action"]["kind"] == "evict"]
        assert {"kind": "in_use", "by": "thread 'holder'"} in reasons(report)
    result = runner.run({**prompt, "source": node("ToySource", label="source", seed=2)})
    assert result.ok, result.error
    assert loaded() == [] and len(unloads(result.report("sweep"))) == 1


def test_a_thread_that_begins_after_the_plan_is_seen_before_the_unload(midway, start, monkeypatch):
    runner = start()
    host = pack("comfy_host").ComfyHost
    inventory, stop, threads = host.inventory, midway.Stop(), []

    def late(self, *arguments):
        facts = inventory(self, *arguments)
        box = [self.models.numbered[0].model]

        def hold():
            local = box.pop()
            stop.wait()
            return local

        threads.append(midway.running("late", hold, stop))
        threads[0].__enter__()
        return facts

    monkeypatch.setattr(host, "inventory", late)
    result = runner.run(sweeping())
    (row,) = unloads(result.report("sweep"))
    assert row["outcome"]["because"] == {"kind": "begun_to_use", "by": "thread 'late'"}
    assert row["outcome"]["reason"] == "thread 'late' began to use it"
    assert loaded() == ["ours"]
    threads[0].__exit__(None, None, None)


def test_a_prompt_that_waits_in_the_same_event_loop_keeps_its_model(midway, start):
    runner = start()
    expected = Runner("CLASSIC").run(sampling(kind="ToyMidwayAsync")).outputs["digest"]["saved"]
    stop = midway.STOPS["here"] = midway.Stop()
    second = Runner("CLASSIC")

    async def both():
        work = second.executor.execute_async(
            sampling("here", "ToyMidwayAsync"), uuid.uuid4().hex, {"client_id": "second"}, ["digest"]
        )
        waiting = asyncio.create_task(work)
        while not stop.reached.is_set():
            await asyncio.sleep(0.001)
        await runner.executor.execute_async(
            sweeping(), uuid.uuid4().hex, {"client_id": "tests"}, ["sweep", "save"]
        )
        seen.append(loaded())
        stop.go_on.set()
        await waiting

    seen = []
    asyncio.run(both())
    assert seen == [["theirs"]]
    assert second.executor.history_result["outputs"]["digest"]["saved"] == expected


def test_a_prompt_around_ours_keeps_the_model_it_is_using(midway, start):
    runner = start()
    import comfy.model_management as management

    outer = Runner("CLASSIC")
    prompt = sampling()
    expected = outer.run(prompt).outputs["digest"]["saved"]
    (patcher,) = [m.model for m in management.current_loaded_models]
    midway.INNER["one"] = {"model": patcher, "run": lambda: runner.run(sweeping())}
    del patcher
    prompt["sample"] = node("ToyInner", value=["source", 0], inner="one")
    result = outer.run(prompt)
    inner = midway.INNER["one"]["result"]
    assert result.ok and inner.ok, (result.error, inner.error)
    assert {"kind": "in_use", "by": "an outer prompt"} in reasons(inner.report("sweep"))
    assert result.outputs["digest"]["saved"] == expected


def test_a_model_that_is_kept_where_it_runs_promises_nothing(midway, start):
    runner = start()
    (row,) = unloads(runner.run(sweeping()).report("sweep"))
    assert row["estimated"] == 0
    assert row["because"] == {"kind": "not_needed_and_stays_on", "device": "cpu"}
    assert "its weights stay on cpu" in row["reason"]
