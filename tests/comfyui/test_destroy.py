"""What may be destroyed is judged when it happens: earlier steps of the same sweep have moved memory."""

import pytest
import torch
from memsweep import _memsweep, hosting
from workflows import node


@pytest.fixture
def asked(monkeypatch):
    """What the destroy step is told to spare as objects, with all that they reach."""
    reached, real = [], hosting.Destroying

    def record(storages, constants, *others):
        reached.extend(_memsweep.reach([constants[-1]], (torch.Tensor,)))
        return real(storages, constants, *others)

    monkeypatch.setattr(hosting, "Destroying", record)
    return reached


def test_cached_outputs_that_stay_and_what_is_connected_are_spared_wherever_they_are_by_then(comfy, toys, asked):
    prompt = {
        # What feeds an output node stays in the cache.
        "kept": node("ToySource", label="kept", seed=1),
        "shown": node("ToySave", value=["kept", 0]),
        # An output that nobody reads again goes, so that there is an evict step.
        "spent": node("ToySource", label="spent", seed=2),
        "mine": node("ToyStep", label="mine", value=["spent", 0]),
        "sweep": node("CleanMemory_PurgeAll", anything=["mine", 0], leftovers="destroy"),
    }
    result = comfy.Runner("CLASSIC").run(prompt)
    assert result.ok, result.error
    kinds = {row["action"]["kind"]: row["outcome"]["kind"] for row in result.report("sweep")["rows"]}
    assert kinds["evict"] == "done" and "destroy" in kinds
    spared = {tensor.data_ptr() for tensor in asked}
    alive = {label: reference() for label, reference in toys.STORAGES.items()}
    assert alive["spent"] is None
    for label in ("kept", "mine"):
        assert alive[label].ctypes.data in spared, label
