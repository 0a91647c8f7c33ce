"""Models that ComfyUI pages by itself, outside torch's memory: what a report says about their pages.

The patcher is a stand-in for ComfyUI's own, which needs a card; so are the card's own numbers.
Loading list, unload and executor are the real ones.
"""

import json
import weakref

import pytest
import torch
from harness.executor import Runner

GIB = 2**30


@pytest.fixture
def paging(comfy, toys, monkeypatch):
    """Makes this ComfyUI page its models; answers with what loads one of that many bytes."""
    import comfy.memory_management
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher
    from memsweep import hosting

    class PagedPatcher(ModelPatcher):
        """A stand-in for ComfyUI's dynamic patcher: its pages go when it leaves the device."""

        pages = 0

        def is_dynamic(self):
            return True

        def loaded_size(self):
            return self.pages + self.model.model_loaded_weight_memory

        def detach(self, unpatch_all=True):
            self.pages = 0
            return self.model

    kept = []

    def load(pages):
        patcher = PagedPatcher(torch.nn.Linear(1, 1), torch.device("cuda:0"), torch.device("cpu"))
        patcher.pages = pages
        loaded = management.LoadedModel(patcher)
        loaded.real_model = weakref.ref(patcher.model)
        loaded.model_finalizer = weakref.finalize(patcher.model, lambda: None)
        kept.append(patcher)
        management.current_loaded_models.append(loaded)
        return patcher

    row = {"id": "cuda:0", "torch": {"allocated": GIB, "reserved": GIB}, "source": "torch"}
    monkeypatch.setattr(hosting.TorchHost, "devices", lambda self: json.dumps([row]))
    monkeypatch.setattr(management, "current_loaded_models", [])
    monkeypatch.setattr(management, "get_free_memory", lambda *_, **__: 0)
    monkeypatch.setattr(management, "soft_empty_cache", lambda *_, **__: None)
    # Between nodes it looks at buffers that only its own patcher has.
    monkeypatch.setattr(management, "reset_cast_buffers", lambda *_, **__: None, raising=False)
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True, raising=False)
    return load


def swept():
    prompt = {
        "source": {"class_type": "ToySource", "inputs": {"label": "source", "seed": 1}},
        "ours": {"class_type": "MemSweepFree", "inputs": {"anything": ["source", 0], "level": "unload"}},
    }
    result = Runner("CLASSIC").run(prompt, ["ours"])
    assert result.ok, result.error
    return result.report("ours")


def paged_of(comfy):
    from memsweep import hosting

    host = comfy.pack("comfy_host").ComfyHost(hosting, "1", None)
    [row] = json.loads(host.devices())
    return row["comfyui"]["paged"]


def test_pages_of_the_last_model_that_leaves_count_as_given_back(paging):
    paging(4 * GIB)
    paging(2 * GIB)
    report = swept()
    outcomes = [row["outcome"] for row in report["rows"] if row["action"]["kind"] == "unload"]
    assert [outcome["kind"] for outcome in outcomes] == ["done"] * 2, outcomes
    assert [reading["devices"][0]["comfyui"]["paged"] for reading in (report["before"], report["after"])] == [6 * GIB, 0]
    [freed] = report["freed"]["devices"]
    assert (freed["comfyui"]["paged"], freed["ours"]) == (6 * GIB, 6 * GIB)


def rest_of(report):
    rest = [row for row in report.get("rest", []) if row["because"].get("device") == "cuda:0"]
    return {row["because"]["kind"]: row["bytes"] for row in rest}


def test_tensors_that_no_loaded_model_explains_are_told_apart(paging, comfy, monkeypatch):
    import comfy.model_management as management

    patcher = paging(4 * GIB)
    patcher.model.model_loaded_weight_memory = GIB // 4
    # Listed twice.
    twin = management.LoadedModel(patcher)
    twin.real_model = weakref.ref(patcher.model)
    twin.model_finalizer = weakref.finalize(patcher.model, lambda: None)
    management.current_loaded_models.append(twin)
    monkeypatch.setattr(management, "free_memory", lambda *_, **__: [])
    assert rest_of(swept()) == {"unexplained": GIB * 3 // 4}
    patcher.model.model_loaded_weight_memory = -1
    assert rest_of(swept()) == {}, "a size below zero is no size"
    patcher.model.model_loaded_weight_memory = 2 * GIB
    assert rest_of(swept()) == {}, "more than torch has allocated"


def test_a_comfyui_that_pages_and_holds_no_page_says_0(paging, comfy):
    assert paged_of(comfy) == 0


def test_a_comfyui_that_does_not_page_says_nothing(paging, comfy, monkeypatch):
    from comfy import memory_management

    monkeypatch.setattr(memory_management, "aimdo_enabled", False)
    assert paged_of(comfy) is None


def test_pages_that_a_model_does_not_report_are_unknown_and_the_device_stays(paging, comfy, monkeypatch):
    patcher = paging(GIB)
    paging(GIB)
    monkeypatch.setattr(patcher, "loaded_size", lambda: 1 / 0, raising=False)
    assert paged_of(comfy) is None


def pins(**kinds):
    """As ComfyUI keeps them for one device: the fourth of each tuple counts the bytes."""
    return {**{name: (None, [], [-1], [size], [0], {}) for name, size in kinds.items()}, "active": True, "failed": False}


@pytest.mark.parametrize(
    ("found", "pinned"),
    [
        ({"weights": 3 * GIB, "patches": GIB, "weights-fast": GIB}, 5 * GIB),
        ({"weights": 0}, 0),
        ({"weights": None}, None),
    ],
)
def test_ram_that_is_pinned_for_a_paged_model_is_in_the_memory_report(paging, comfy, found, pinned):
    patcher = paging(GIB)
    patcher.model.dynamic_pins = {patcher.load_device: pins(**found)}
    [fact] = facts_of(comfy)
    assert fact["pinned"] == pinned
    result = Runner("CLASSIC").run({"ours": {"class_type": "MemSweepReport", "inputs": {}}}, ["ours"])
    text = result.text("ours")
    assert ("5.0 GiB of RAM pinned for it" in text) is (pinned == 5 * GIB)
    assert ("pinned for it" in text) is bool(pinned)


def test_ram_that_nobody_counts_is_unknown(paging, comfy, monkeypatch):
    from harness import broken

    patcher = paging(GIB)
    assert facts_of(comfy)[0]["pinned"] is None, "it has no pins"
    patcher.model.dynamic_pins = {patcher.load_device: pins(weights=GIB)}
    with broken.broken(["comfy.model_patcher.ModelPatcherDynamic: dynamic_pins"]):
        assert facts_of(comfy)[0]["pinned"] is None, "it is not known what they mean"
    monkeypatch.setattr(patcher, "is_dynamic", lambda: False, raising=False)
    assert facts_of(comfy)[0]["pinned"] is None


def facts_of(comfy):
    from memsweep import hosting

    return comfy.pack("comfy_host").ComfyHost(hosting, "1", None).loaded_models()
