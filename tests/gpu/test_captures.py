"""Sweeps while a CUDA graph is being captured: the capture goes on, and its replay is right."""

import threading

import memsweep
import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MODES = ("global", "thread_local", "relaxed")


def here(work):
    work()


def elsewhere(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def capture(mode, stream, work):
    """What a graph computes from 1s that was captured while `work` ran."""
    ones = torch.ones(2**20, device="cuda")
    # Something for the cache to give back.
    torch.empty(2**26, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
        twice = ones * 2
        work()
        result = twice + 1
    graph.replay()
    torch.cuda.synchronize()
    return result.unique().tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ("trim", "collect", "park", "destroy"))
@pytest.mark.parametrize("place", (here, elsewhere))
def test_a_sweep_leaves_a_capture_alone(mode, level, place):
    reports = []
    assert capture(mode, None, lambda: place(lambda: reports.append(memsweep.sweep(level=level)))) == [3.0]
    rows = {row["action"]["kind"]: row for row in reports[0].to_dict()["rows"]}
    assert rows["empty_device_cache"]["outcome"]["because"] == {"kind": "capturing"}


@pytest.mark.parametrize("mode", MODES)
def test_a_capture_on_a_stream_of_its_own_in_another_thread_goes_on(mode):
    stream = torch.cuda.Stream()
    assert capture(mode, stream, lambda: elsewhere(lambda: memsweep.sweep(level="trim"))) == [3.0]
