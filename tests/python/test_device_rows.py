"""What torch says of devices that this machine does not have: torch is a stand-in here."""

import contextlib
from types import SimpleNamespace

import memsweep
import pytest
from memsweep import torch_host


def metal(allocated, held):
    """A torch on a Mac. Emptying the cache is noted."""
    emptied = []
    return SimpleNamespace(
        cuda=SimpleNamespace(is_initialized=lambda: False),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)),
        mps=SimpleNamespace(
            current_allocated_memory=lambda: allocated,
            driver_allocated_memory=lambda: held,
            empty_cache=lambda: emptied.append("mps"),
            synchronize=lambda: None,
        ),
        emptied=emptied,
    )


@pytest.fixture
def torch_is(monkeypatch):
    def put(torch):
        monkeypatch.setattr(torch_host, "loaded", lambda: torch)
        return torch

    return put


def test_a_device_stays_when_its_last_tensor_leaves(torch_is):
    torch_is(metal(0, 0))
    [row] = torch_host.device_rows()
    assert (row["id"], row["torch"]) == ("mps:0", {"allocated": 0, "reserved": 0})
    assert torch_host.empty_device_cache() == 0, "it is not in use"


def test_a_cache_without_a_tensor_is_emptied(torch_is):
    torch = torch_is(metal(0, 2**30))
    assert torch_host.empty_device_cache() == 1
    assert torch.emptied == ["mps"]


def test_a_torch_that_knows_no_address_reports_the_cards_uuid(torch_is):
    properties = SimpleNamespace(name="RTX", total_memory=8, uuid="AA-BB")
    torch_is(SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: True,
            device_count=lambda: 1,
            get_device_properties=lambda index: properties,
            mem_get_info=lambda index: (3, 8),
            memory_allocated=lambda index: 1,
            memory_reserved=lambda index: 2,
        ),
        _C=SimpleNamespace(),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    ))
    [row] = torch_host.device_rows()
    assert (row["uuid"], row.get("pci"), row["driver"]["used"]) == ("aa-bb", None, 5)


class Cuda:
    """A CUDA device in use, with a capture under way on one of its streams."""

    def __init__(self, captured):
        self.captured, self.current, self.calls = captured, "default", []
        self.is_initialized, self.device_count = lambda: True, lambda: 1
        self.graph = SimpleNamespace(default_capture_stream="torch's own")
        self.ipc_collect = lambda: None

    def is_current_stream_capturing(self):
        return self.current == self.captured

    def device(self, index):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def synchronize(self, index=None):
        raise AssertionError("waiting for the device spoils a capture on any of its streams")

    def empty_cache(self):
        self.calls.append("empty_cache")


@pytest.mark.parametrize("captured", ("default", "torch's own", None))
def test_a_capture_is_not_disturbed(torch_is, captured):
    cuda = Cuda(captured)
    torch_is(
        SimpleNamespace(
            cuda=cuda,
            _C=SimpleNamespace(),
            backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
        )
    )
    report = memsweep.sweep(level="trim").to_dict()
    rows = {row["action"]["kind"]: row for row in report["rows"]}
    outcome = rows["empty_device_cache"]["outcome"]
    if captured:
        assert cuda.calls == []
        assert outcome["because"] == {"kind": "capturing"}
        assert outcome["reason"] == "a CUDA graph is being captured"
    else:
        assert cuda.calls == ["empty_cache"]
        assert outcome["kind"] == "done"
    assert cuda.current == "default"
