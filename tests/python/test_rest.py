"""What holds the rest: a report names it."""

import json
import subprocess
import sys

import memsweep
import pytest
from memsweep import _memsweep

MIB = 1 << 20


def rows(report, kind):
    return [row for row in report.get("rest", []) if row["because"]["kind"] == kind]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is asked")
def test_a_child_process_is_named_with_its_memory():
    code = f"held = bytearray({48 * MIB}); held[::4096] = bytes(len(held[::4096])); print(1, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.read(1)
        swept = memsweep.sweep(level="trim")
        _, reading = _memsweep.memory_report(memsweep.reading(), "[]")
    finally:
        child.communicate(b"\n")
    for report in (swept.to_dict(), json.loads(reading)):
        [row] = [row for row in rows(report, "child") if row["because"]["pid"] == child.pid]
        assert row["bytes"] >= 48 * MIB and not row["because"]["at_most"], row
    assert f"RAM of child process {child.pid} (" in str(swept)
    gone = memsweep.sweep(level="trim").to_dict()
    assert child.pid not in [row["because"]["pid"] for row in rows(gone, "child")]


def test_a_graph_behind_what_is_protected_is_told():
    torch = pytest.importorskip("torch")
    weight = torch.ones(1000, requires_grad=True)

    def graphs(*protect):
        return rows(memsweep.sweep(list(protect), level="unload").to_dict(), "graph")

    assert graphs(weight, weight.detach() * 2, (weight * 2).detach()) == []
    [row] = graphs({"loss": [(weight * 2).sum()]})
    assert (row["bytes"], row["because"]["output"]) == (None, None)
    # A view of memory without a graph has one of its own.
    assert graphs(weight[:10])


def test_asking_for_a_graph_runs_no_code_of_a_tensor_class():
    torch = pytest.importorskip("torch")

    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            calls.append(function)
            return super().__torch_function__(function, types, args, kwargs)

    recorded = (torch.ones(10, requires_grad=True) * 2).as_subclass(Loud)
    calls = []
    storages = _memsweep.Storages()
    storages.numbers([recorded])
    assert (storages.facts()[0]["graph"], calls) == (True, [])
