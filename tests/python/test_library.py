"""The library in a plain program, with and without torch."""

import gc
import json
import subprocess
import sys
import textwrap

import memsweep
import pytest


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def test_import_starts_nothing_and_loads_neither_torch_nor_comfyui():
    printed = run("""
        import json, os, sys, threading
        before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
        import memsweep
        after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
        heavy = [name for name in ("torch", "numpy", "comfy", "server") if name in sys.modules]
        print(json.dumps([threading.active_count(), len(after - before), heavy]))
    """)
    assert json.loads(printed) == [1, 0, []]


def test_no_use_loads_torch_or_numpy():
    """Ruff sees the imports of Python files, and none of Rust."""
    printed = run("""
        import sys, memsweep
        memsweep.reading()
        for level in ("collect", "park", "destroy"):
            memsweep.sweep(level=level)
        memsweep.park([bytearray(2**21)])
        print([name for name in ("torch", "numpy") if name in sys.modules])
    """)
    assert printed == "[]"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_agrees_with_an_independent_look_at_proc():
    before = status("VmRSS")
    reading = memsweep.reading()
    after = status("VmRSS")
    low, high = sorted((before, after))
    assert low - 4 * 2**20 <= reading.process_resident <= high + 4 * 2**20
    shown = reading.to_dict()
    assert shown["schema"] == 2
    assert shown["process"]["commit"] is None, "unknown is None, never 0"


def test_sweep_collects_cycles_and_says_so():
    class Node:
        pass

    node = Node()
    node.self = node
    alive = __import__("weakref").ref(node)
    gc.disable()
    try:
        del node
        assert alive() is not None
        report = memsweep.sweep()
    finally:
        gc.enable()
    assert alive() is None
    row = next(r for r in report.to_dict()["rows"] if r["action"]["kind"] == "collect")
    assert row["outcome"]["kind"] == "done"


def test_dry_run_collects_nothing():
    class Node:
        pass

    node = Node()
    node.self = node
    alive = __import__("weakref").ref(node)
    gc.disable()
    try:
        del node
        report = memsweep.sweep(dry_run=True)
        assert alive() is not None
    finally:
        gc.enable()
    assert {row["verdict"] for row in report.to_dict()["rows"]} == {"not_run"}


def test_a_sweep_gives_a_fragmented_heap_back_and_measures_it():
    printed = run("""
        import json, memsweep
        blocks = [bytearray(100_000) for _ in range(3000)]
        del blocks[::2]
        kept = blocks[::50]
        del blocks
        before = memsweep.reading().process_anonymous
        report = memsweep.sweep(level="trim")
        after = memsweep.reading().process_anonymous
        print(json.dumps([before - after, report.freed]))
    """)
    really, reported = json.loads(printed)
    assert abs(really - reported) < 4 * 2**20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"level": "deep"}, "use one of `trim`"),
        ({"goal": {"ram": 1}}, "ram_available"),
        ({"goal": {"device_free": {"device": "", "bytes": 1}}}, "cuda:0"),
        ({"goal": {"ram_available": -1}}, "settings"),
    ],
)
def test_invalid_settings_are_a_value_error(arguments, words):
    with pytest.raises(ValueError, match=words):
        memsweep.sweep(**arguments)


def test_deeper_levels_do_what_this_program_can_and_say_so():
    report = memsweep.sweep(protect=[{"a": 1}], level="park", parking={"off": True}).to_dict()
    assert (report["requested_level"], report["level"]) == ("park", "evict")
    assert any("parking is switched off" in note["reason"] for note in report["notes"])
    assert any("no model manager" in note["reason"] for note in report["notes"])


def test_a_goal_that_holds_already_runs_no_step():
    report = memsweep.sweep(goal={"ram_available": 1})
    assert report.goal_met
    assert all(row["outcome"]["kind"] == "skipped" for row in report.to_dict()["rows"])


def test_protected_objects_that_refuse_attribute_access_do_no_harm():
    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError("hands off")

    report = memsweep.sweep(protect=[Hostile(), None, []], level="evict")
    assert report.to_dict()["level"] == "evict"


def test_a_host_that_fails_or_lies_is_told_apart_from_an_honest_one():
    from memsweep import hosting

    class Host:
        def __init__(self, answer):
            self.answer = answer

        def devices(self):
            return "not json"

        def check_cancelled(self):
            pass

        def release(self, action):
            if self.answer is None:
                raise OSError("disk on fire")
            return json.dumps(self.answer)

    def verdict(answer):
        report = hosting.sweep_with(Host(answer), {"level": "collect"}, {}).to_dict()
        return next(r for r in report["rows"] if r["action"]["kind"] == "collect")

    assert verdict(None)["verdict"] == "failed"
    assert "disk on fire" in verdict(None)["outcome"]["error"]
    assert verdict({"kind": "done", "claimed": 2**30})["verdict"] == "claim_not_seen"
    assert verdict({"kind": "nothing_to_do", "reason": "x"})["verdict"] == "not_run"


def test_a_cancel_passes_through_and_nothing_follows_it():
    from memsweep import hosting

    class Cancel(Exception):
        pass

    class Host(hosting.TorchHost):
        passing = (Cancel,)

        def __init__(self):
            self.asked = []

        def check_cancelled(self):
            if self.asked:
                raise Cancel("stop")

        def release(self, action):
            self.asked.append(json.loads(action)["kind"])
            return super().release(action)

    host = Host()
    with pytest.raises(Cancel):
        hosting.sweep_with(host, {"level": "collect"}, {})
    assert len(host.asked) == 1


def test_ctrl_c_in_a_reading_stops_the_sweep():
    from memsweep import hosting

    class Host(hosting.TorchHost):
        def __init__(self):
            self.asked = []

        def devices(self):
            raise KeyboardInterrupt

        def release(self, action):
            self.asked.append(action)
            return super().release(action)

    host = Host()
    with pytest.raises(KeyboardInterrupt):
        hosting.sweep_with(host, {"level": "collect"}, {})
    assert host.asked == []
    with pytest.raises(KeyboardInterrupt):
        hosting.read(Host())


def test_looking_at_a_copy_on_write_tensor_does_not_copy_it():
    torch = pytest.importorskip("torch")
    if not hasattr(torch._C, "_is_cow_tensor"):
        pytest.skip("this torch has no such tensors")
    tensor = torch.ones(1000)
    lazy = torch._lazy_clone(tensor)
    memsweep.sweep(protect=[lazy], level="evict")
    assert torch._C._is_cow_tensor(lazy)
