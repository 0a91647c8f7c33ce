"""Level `destroy` on a CUDA device: memory comes back, and what holds bare addresses is left alone."""

import sys
import threading
import types

import memsweep
import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MIB = 2**20
FOREIGN = types.ModuleType("memsweep_test_foreign")
FOREIGN.__file__ = "/home/user/custom_nodes/foreign.py"


@pytest.fixture
def foreign():
    sys.modules[FOREIGN.__name__] = FOREIGN
    kept = dict(vars(FOREIGN))
    yield FOREIGN
    vars(FOREIGN).clear()
    vars(FOREIGN).update(kept)
    del sys.modules[FOREIGN.__name__]


def destroy():
    report = memsweep.sweep(level="destroy", parking={"off": True})
    return next(
        row["outcome"] for row in report.to_dict()["rows"] if row["action"]["kind"] == "destroy"
    )


def test_the_memory_of_a_device_comes_back(foreign):
    foreign.model = torch.nn.Linear(4096, 4096, device="cuda")
    before = torch.cuda.memory_allocated()
    outcome = destroy()
    assert sum(row["bytes"] for row in outcome["owners"]) >= 64 * MIB
    assert before - torch.cuda.memory_allocated() >= 64 * MIB
    with pytest.raises(memsweep.DestroyedError):
        foreign.model(torch.ones(1, 4096, device="cuda"))


def test_what_a_captured_graph_computes_with_stays(foreign):
    foreign.input = torch.ones(MIB, device="cuda")
    foreign.graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        foreign.input * 2
    torch.cuda.synchronize()
    with torch.cuda.graph(foreign.graph):
        foreign.output = foreign.input * 2
    outcome = destroy()
    reasons = {row["reason"] for row in outcome.get("refused", ())}
    assert "a CUDA graph may hold its address" in reasons
    foreign.input.fill_(21)
    foreign.graph.replay()
    torch.cuda.synchronize()
    assert foreign.output.unique().tolist() == [42.0]
    del foreign.graph, foreign.output
    destroy()
    assert type(foreign.input).__name__ == "Destroyed"


def test_a_thread_that_computes_on_the_device_is_never_hit(foreign):
    stop, errors, sums = threading.Event(), set(), []

    def work():
        while not stop.is_set():
            try:
                sums.append(float(foreign.weight.sum(dtype=torch.float64)))
            except Exception as error:
                errors.add(type(error).__name__)

    for _ in range(30):
        foreign.weight = torch.ones(32 * MIB, device="cuda")
        stop.clear()
        thread = threading.Thread(target=work)
        thread.start()
        try:
            destroy()
            fresh = torch.zeros(32 * MIB, device="cuda")
            torch.cuda.synchronize()
        finally:
            stop.set()
            thread.join()
        assert not fresh.any()
        del fresh
    assert set(sums) <= {float(32 * MIB)}
    assert errors <= {"DestroyedError"}
