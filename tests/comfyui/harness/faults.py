"""Tools of the fault tests: a workflow in which a sweep can do everything, calls that go wrong, and
the check that nothing is left half done."""

import gc
import time
import weakref

import comfy.model_management as management
import numpy
import torch
from comfy.model_patcher import ModelPatcher
from pytest import MonkeyPatch
from workflows import bypass, node

from harness.executor import quiet
from harness.toys import STORAGES, ToyNetwork, toy, watched
from harness.reports import notes

SIDE_TABLES = ("used_generation", "timestamps", "children")
GONE = object()


class Stranger(BaseException):
    """Neither an `Exception` nor a cancel, like a panic of another pack's Rust module."""


@toy()
def ToyPatched(label, seed):
    """A loaded model with a patch on its weight, as a LoRA is."""
    network = ToyNetwork(label)
    STORAGES[label] = weakref.ref(network)
    chance = numpy.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(chance.random(parameter.shape, dtype=numpy.float32) - 0.5))
    device = torch.device("cpu")
    patcher = ModelPatcher(network, load_device=device, offload_device=device)
    patch = torch.from_numpy(chance.random((256, 256), dtype=numpy.float32))
    assert patcher.add_patches({"layer.weight": ("diff", (patch,))}, 0.25)
    management.load_models_gpu([patcher])
    return (patcher,)


@toy()
def ToyApply(label, model, value):
    """Loads the model, as every sampler does, and runs it."""
    management.load_models_gpu([model])
    with torch.no_grad():
        return (watched(label, model.model.layer(value.reshape(-1, 256)).numpy()),)


FAULT_TOYS = {"ToyPatched": ToyPatched, "ToyApply": ToyApply}


def workflow(seed=1, arm="arm", **widgets):
    """At the sweep: five outputs and two loaded models that no node still to run needs."""
    return {
        "source": node("ToySource", label="source", seed=seed),
        "model": node("ToyPatched", label="model", seed=1),
        "other": node("ToyPatched", label="other", seed=2),
        "used": node("ToyApply", label="used", model=["model", 0], value=["source", 0]),
        "a": node("ToyApply", label="a", model=["other", 0], value=["used", 0]),
        "b": node("ToyStep", label="b", value=["a", 0]),
        "arm": node("ToyArm", name=arm, value=["b", 0]),
        "sweep": node("MemSweepFree", anything=["arm", 0], level="evict", **widgets),
        "mend": node("ToyArm", name="mend", value=["sweep", 0]),
        "c": node("ToyStep", label="c", value=["mend", 0]),
        "d": node("ToyView", label="d", value=["c", 0]),
        "save": node("ToySave", value=["d", 0]),
    }


# -- calls that go wrong

# What the torch steps answer on a device that is in use.
TORCH_STEPS = {"empty_device_cache": 1, "empty_host_cache": True}


def wrong(way, original, answer, calls):
    """A stand-in for `original`. When it lies, it gives `answer` and does nothing."""

    def call(*arguments, **named):
        calls.append(way)
        if way == "raises":
            raise RuntimeError("out of order")
        if way == "raises no Exception":
            raise Stranger("out of order")
        if way == "cancels":
            raise management.InterruptProcessingException
        if way == "lies":
            return answer
        if way == "hangs":
            time.sleep(0.1)
        if way == "hangs while the user cancels":
            import nodes

            time.sleep(0.1)
            nodes.interrupt_processing()
        result = original(*arguments, **named)
        if way == "raises afterwards":
            raise RuntimeError("out of order")
        return result

    return call


def broken_table(table, way, calls, only=None):
    """A copy of a cache's dict whose deletions go wrong, all of them or only the `only`-th."""

    class Broken(dict):
        def __delitem__(self, key):
            delete = super().__delitem__
            if only is not None and len(calls) != only:
                calls.append(None)
                return delete(key)
            return wrong(way, delete, None, calls)(key)

        def pop(self, key, *default):
            if key not in self:
                return super().pop(key, *default)
            value = self[key]
            del self[key]
            return value

    return Broken(table)


# -- nothing half done


def caches_of(runner):
    """The output cache and all below it; none where nothing is cached."""

    def below(cache):
        if hasattr(cache, "cache"):
            yield cache
            for inner in getattr(cache, "subcaches", {}).values():
                yield from below(inner)

    return list(below(runner.executor.caches.outputs))


class State:
    """What is cached and loaded at one moment, to be compared with a later one."""

    def __init__(self, runner):
        self.entries = [
            (cache, key, entry, list(entry.outputs), self._tables(cache, key))
            for cache in caches_of(runner) for key, entry in cache.cache.items()
        ]
        self.models = [(loaded, loaded.model) for loaded in management.current_loaded_models]

    @staticmethod
    def _tables(cache, key):
        # Which tables know the key, not what they say: reading an entry changes its time stamp.
        return {name for name in SIDE_TABLES if key in getattr(cache, name, {})}

    def check_whole(self):
        """Every earlier entry and model is there as it was, or completely gone."""
        for cache, key, entry, outputs, tables in self.entries:
            now = cache.cache.get(key, GONE)
            if now is GONE:
                assert not self._tables(cache, key), "a side table knows an entry that is gone"
            else:
                assert now is entry, "an entry was exchanged"
                assert len(entry.outputs) == len(outputs), "an entry that is there was emptied"
                assert all(a is b for a, b in zip(entry.outputs, outputs, strict=True))
                assert self._tables(cache, key) == tables, "a side table lost an entry that is there"
        for loaded, patcher in self.models:
            if any(other is loaded for other in management.current_loaded_models):
                assert loaded.model is patcher
                assert loaded.real_model is not None and loaded.real_model() is patcher.model
                assert loaded.model_finalizer is not None

    def check_untouched(self):
        """Nothing was dropped or unloaded at all."""
        self.check_whole()
        assert all(key in cache.cache for cache, key, *_ in self.entries), "an entry is gone"
        listed = management.current_loaded_models
        assert all(any(other is loaded for other in listed) for loaded, _ in self.models), "a model was unloaded"

    def gone(self):
        return sum(key not in cache.cache for cache, key, *_ in self.entries)

    def unloaded(self):
        return sum(all(other is not loaded for other in management.current_loaded_models) for loaded, _ in self.models)


# -- reports


def rows(report, kind):
    found = [row for row in report["rows"] if row["action"]["kind"] == kind]
    assert found, f"no {kind} step in {[row['action']['kind'] for row in report['rows']]}"
    return found


def check_went_on(report):
    """A step that fails ends nothing: the heap is trimmed last."""
    assert not report["cancelled"]
    assert report["rows"][-1]["action"]["kind"] in ("trim_heap", "system_wide")
    assert rows(report, "trim_heap")[0]["outcome"]["kind"] != "skipped"


def check_refused(case, report, words):
    """No entry went, the report says why, and what needs no facts was done."""
    assert not [row for row in report["rows"] if row["action"]["kind"] == "evict"]
    assert case.gone == 0
    assert words in "\n".join(notes(report)), report["notes"]
    check_went_on(report)


# -- one case


class Case:
    """The fault workflow on one executor, with a fault armed just before the sweep."""

    def __init__(self, comfy, toys, cache="RAM_PRESSURE", earlier=False):
        self.toys = toys
        self.patch = MonkeyPatch()
        self.disarm()
        self.runner = comfy.Runner(cache)
        self.plain = comfy.Runner(cache)
        self.calls = []
        if earlier:
            # Then ComfyUI itself also holds the entries until the prompt ends.
            self.same(bypass(workflow(arm="quiet")), self.runner)

    def same(self, prompt, runner):
        """The prompt gives what it gives without our nodes."""
        armed = dict(self.toys.ARMED)
        self.disarm()
        expected = self.plain.run(bypass(prompt))
        self.toys.ARMED.update(armed)
        assert expected.ok, expected.error
        result = runner.run(prompt)
        assert result.ok, result.error
        assert result.saved() == expected.saved()
        runner.check_side_tables()
        return result

    def disarm(self):
        self.toys.ARMED.update(dict.fromkeys(("arm", "mend", "quiet"), lambda: None))

    def arm(self, fault):
        def now():
            self.before = State(self.runner)
            fault()

        def over():
            self.mend()
            self.before.check_whole()
            self.gone, self.unloaded = self.before.gone(), self.before.unloaded()

        self.toys.ARMED.update(arm=now, mend=over)

    def mend(self):
        self.patch.undo()
        for cache in caches_of(self.runner):
            for name in ("cache", *SIDE_TABLES):
                if hasattr(cache, name):
                    setattr(cache, name, dict(getattr(cache, name)))

    def run(self, **widgets):
        """The prompt with the fault, then two without: all give the right result. Its report."""
        try:
            with quiet():
                report = self.same(workflow(**widgets), self.runner).report("sweep")
        finally:
            self.mend()
        assert self.calls, "the fault was not met"
        self.next_prompts()
        return report

    def next_prompts(self):
        self.disarm()
        with quiet():
            for seed in (1, 2):
                self.same(workflow(seed=seed), self.runner)


def arm_step(case, kind, way):
    """Arms the function underneath a kind of step."""
    from memsweep import torch_host

    places = {"collect": (gc, "collect", 1000), "unload": (management, "free_memory", [])}
    places |= {name: (torch_host, name, answer) for name, answer in TORCH_STEPS.items()}
    owner, name, answer = places[kind]
    case.arm(lambda: case.patch.setattr(
        owner, name, wrong(way, getattr(owner, name), answer, case.calls)
    ))
