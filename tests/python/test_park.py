"""Parking: RAM comes back, and whoever holds the memory never notices."""

import os
import subprocess
import sys
import threading
import time
import types
import weakref

import memsweep
import pytest
from extent import scaled, thorough

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park")

MIB = 2**20
# What another pack would be: a module with globals of its own.
FOREIGN = types.ModuleType("memsweep_test_foreign")


@pytest.fixture(autouse=True)
def foreign():
    sys.modules[FOREIGN.__name__] = FOREIGN
    yield FOREIGN
    vars(FOREIGN).clear()
    FOREIGN.__name__ = "memsweep_test_foreign"
    del sys.modules[FOREIGN.__name__]


def parked(report):
    """The outcome of the park step."""
    rows = report.to_dict()["rows"]
    return next(row["outcome"] for row in rows if row["action"]["kind"] == "park")


def is_parked(tensor):
    """Whether the page in its middle is on disk, or read from there and not written since."""
    page = (tensor.data_ptr() + tensor.nbytes // 2) // os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/pagemap", "rb") as pages:
        pages.seek(page * 8)
        flags = int.from_bytes(pages.read(8), "little")
    in_memory, of_a_file = flags >> 63 & 1, flags >> 61 & 1
    return not in_memory or bool(of_a_file)


@thorough
def test_two_gigabytes_in_a_thousand_tensors(foreign):
    foreign.cache = [torch.full((512 * 1024 + 7 * n,), float(n)) for n in range(1000)]
    size = sum(tensor.nbytes for tensor in foreign.cache)
    view, array = foreign.cache[3][10:20], foreign.cache[4].numpy()

    report = memsweep.sweep(level="park")

    assert size > 2e9
    assert report.freed >= 0.95 * size
    assert parked(report)["bytes"] >= 0.99 * size
    assert report.to_dict()["after"]["process"]["parked"] >= 0.99 * size
    for number, tensor in enumerate(foreign.cache):
        assert bool((tensor == float(number)).all()), number
    assert view.tolist() == [3.0] * 10
    array[:] = 9
    foreign.cache[5].add_(1)
    assert foreign.cache[4].unique().tolist() == [9.0]
    assert foreign.cache[5].unique().tolist() == [6.0]
    assert foreign.cache[3][15] == 3

    # Freed and used again, zeroed memory included.
    foreign.cache = None
    again = [torch.zeros(300_000 + 1111 * n) for n in range(300)]
    assert not any(bool(tensor.any()) for tensor in again)
    again = [numpy.zeros(300_000 + 1111 * n) for n in range(100)]
    assert not any(array.any() for array in again)


def test_arrays_and_bytes_move_too(foreign):
    foreign.array = numpy.arange(500_000.0)
    foreign.bytes = os.urandom(3 * MIB)
    foreign.bytearray = bytearray(foreign.bytes)
    copies = foreign.array.copy(), bytes(bytearray(foreign.bytes))
    outcome = parked(memsweep.park([foreign.array, foreign.bytes, foreign.bytearray]))
    assert outcome["bytes"] + outcome["already"] >= 500_000 * 8 + 6 * MIB - 6 * 4096
    assert (foreign.array == copies[0]).all()
    assert foreign.bytes == copies[1] == foreign.bytearray
    foreign.bytearray[:2] = b"xy"
    foreign.bytearray += b"end"
    assert foreign.bytearray == b"xy" + copies[1][2:] + b"end"


def test_what_torch_alone_holds_moves_too(foreign):
    foreign.parameter = torch.zeros(MIB, requires_grad=True)
    foreign.parameter.grad = torch.full((MIB,), 3.0)
    foreign.view = torch.full((MIB,), 4.0)[5:]
    outcome = parked(memsweep.park([foreign]))
    assert outcome["bytes"] > 11 * MIB and not outcome["refused"], outcome
    assert is_parked(foreign.parameter.grad)
    assert is_parked(foreign.view)
    assert foreign.parameter.grad.unique().tolist() == [3.0]
    assert foreign.view.unique().tolist() == [4.0]


def test_only_what_was_named_is_parked(foreign):
    foreign.model = torch.nn.Linear(1024, 1024)
    foreign.other = torch.ones(MIB)
    # Heap that was parked and freed before comes in pieces, so the count is not checked.
    assert 2 * MIB < parked(memsweep.park([foreign.model]))["bytes"] <= 4 * MIB
    assert is_parked(foreign.model.weight.data)
    assert not is_parked(foreign.other)
    # A module stands for its globals.
    assert 2 * MIB < parked(memsweep.park([foreign]))["bytes"] <= 4 * MIB
    assert is_parked(foreign.other)


def test_what_is_protected_stays_in_memory(foreign):
    foreign.kept, foreign.idle = torch.ones(MIB), torch.ones(MIB)
    memsweep.sweep(protect=[{"deep": [foreign.kept[5:9]]}], level="park")
    assert not is_parked(foreign.kept)
    assert is_parked(foreign.idle)


def test_small_blocks_and_memory_of_others_stay_and_are_reported(foreign, tmp_path):
    foreign.small = torch.ones(1000)
    foreign.shared = torch.ones(MIB).share_memory_()
    foreign.array = numpy.ones(MIB)
    foreign.shown = torch.from_numpy(foreign.array)
    torch.save(torch.ones(MIB), tmp_path / "file")
    foreign.file = torch.load(tmp_path / "file", mmap=True)
    foreign.used = torch.ones(MIB)
    capsule = foreign.used.__dlpack__()
    outcome = parked(memsweep.park([foreign]))
    del capsule
    assert outcome["bytes"] == 0
    assert {(row["reason"], row["blocks"], row["bytes"]) for row in outcome["refused"]} == {
        # The array is: a tensor in C++ shows it.
        ("in use", 2, 12 * MIB),
        ("shared with other processes", 1, 4 * MIB),
        ("a mapped file", 1, 4 * MIB),
    }
    assert foreign.shared.sum() == foreign.shown.sum() == foreign.file.sum() == MIB


def test_a_clean_block_is_not_written_again(foreign):
    foreign.tensor = torch.ones(4 * MIB)
    first = parked(memsweep.park([foreign.tensor]))
    assert foreign.tensor.sum() == 4 * MIB
    second = parked(memsweep.park([foreign.tensor]))
    assert second["bytes"] == 0
    assert second["already"] >= first["bytes"] > 12 * MIB


def _thread(work):
    """Runs `work(ready, go_on)` on a thread until told to go on."""
    ready, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=work, args=(ready, go_on))
    thread.start()
    assert ready.wait(10)
    return thread, go_on


@pytest.mark.parametrize("held", ["tensor", "view", "array", "storage", "list"])
def test_what_another_thread_could_be_writing_stays(foreign, held):
    foreign.tensor = torch.ones(MIB)
    made = {
        "tensor": lambda: foreign.tensor,
        "view": lambda: foreign.tensor[5:],
        "array": lambda: foreign.tensor.numpy()[7:],
        "storage": lambda: foreign.tensor.untyped_storage(),
        "list": lambda: [foreign.tensor],
    }[held]

    def work(ready, go_on):
        local = made()
        ready.set()
        go_on.wait(30)
        del local

    thread, go_on = _thread(work)
    try:
        memsweep.sweep(level="park")
        assert not is_parked(foreign.tensor)
    finally:
        go_on.set()
        thread.join()
    memsweep.sweep(level="park")
    assert is_parked(foreign.tensor)


def _before_the_swap(monkeypatch, act):
    """Acts once after the first files were written and before anything moved."""
    from memsweep.parking import Parking

    def progress(self, done, total):
        if done == 0 and acted.pop():
            act()

    acted = [False, True]
    monkeypatch.setattr(Parking, "progress", progress)


def test_memory_that_was_replaced_meanwhile_is_not_touched(foreign, monkeypatch):
    foreign.tensor = torch.ones(MIB)

    def resize():
        foreign.tensor.untyped_storage().resize_(8 * MIB)
        foreign.tensor.fill_(2)

    _before_the_swap(monkeypatch, resize)
    outcome = parked(memsweep.park([foreign.tensor]))
    assert outcome["bytes"] == 0
    assert [row["reason"] for row in outcome["refused"]] == ["came into use in the meantime"]
    assert foreign.tensor.unique().tolist() == [2.0]


def test_what_a_thread_takes_after_the_survey_stays(foreign, monkeypatch):
    """It leaves its place as it enters the thread, so its reference count is the same."""
    foreign.box, started = [torch.full((MIB,), 4.0)], []

    def work(ready, go_on):
        local = foreign.box.pop()
        ready.set()
        go_on.wait(30)
        foreign.box.append(local)

    _before_the_swap(monkeypatch, lambda: started.append(_thread(work)))
    outcome = parked(memsweep.park([foreign.box]))
    ((thread, go_on),) = started
    go_on.set()
    thread.join()
    assert outcome["bytes"] == 0
    assert [row["reason"] for row in outcome["refused"]] == ["came into use in the meantime"]
    assert foreign.box[0].unique().tolist() == [4.0]


def test_nothing_is_held_while_a_park_writes(foreign, monkeypatch):
    foreign.array = numpy.ones(4 * MIB, numpy.uint8)
    foreign.tensor = torch.ones(MIB)
    foreign.gone = torch.ones(MIB)
    gone = weakref.ref(foreign.gone)
    foreign.rest = torch.ones(MIB)

    def act():
        # Both count the references to their arguments.
        foreign.array.resize(foreign.array.size + 1)
        torch.utils.swap_tensors(foreign.tensor, torch.zeros(MIB))
        del foreign.gone
        assert gone() is None
        done.append(True)

    done = []
    _before_the_swap(monkeypatch, act)
    memsweep.park([foreign])
    assert done
    assert foreign.array.size == 4 * MIB + 1
    assert not foreign.tensor.any()
    assert is_parked(foreign.rest)


def test_no_python_runs_from_the_walk_to_the_swap(foreign):
    """An audit hook is Python code, and may give up the interpreter lock at any event."""
    code = """
import gc, sys, time, types
import numpy, torch
import memsweep
foreign = types.ModuleType("memsweep_test_foreign")
foreign.__file__ = "/packs/foreign.py"
sys.modules[foreign.__name__] = foreign
foreign.tensors = [torch.ones(2**20) for _ in range(4)]
foreign.objects = numpy.array([torch.ones(2**20), None, "x"], dtype=object)
foreign.array = numpy.ones(2**20)
foreign.generator = (value for value in foreign.tensors)
next(foreign.generator)
foreign.closure = (lambda value: lambda: value)(torch.ones(2**20))
events, inside = 0, []
class Own(torch.Tensor):
    # A class that is asked, in Python, what device its tensors are on.
    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), named=None):
        if not gc.isenabled():
            inside.append(str(function))
        if function is torch.ops.prim.device.default:
            return torch.device("cpu")
        return super().__torch_dispatch__(function, types, arguments, named or {})
foreign.own = torch.Tensor._make_subclass(Own, torch.ones(2**20), dispatch_device=True)
assert foreign.own.device.type == "cpu"
def hook(name, arguments):
    global events
    events += 1
    # The collector is off from the first question about the heap until the last page is exchanged. The walk
    # begins after the list of objects.
    if not gc.isenabled() and name != "gc.get_objects":
        inside.append(name)
    time.sleep(0)
memsweep.sweep(level="collect")
sys.addaudithook(hook)
def called(value):
    def inner():
        return value, memsweep.park([foreign])
    return inner()
_, report = called(foreign.tensors[0])
moved = next(r["outcome"]["bytes"] for r in report.to_dict()["rows"] if r["action"]["kind"] == "park")
assert moved > 2**24, report
memsweep.sweep(level="park")
memsweep.sweep(level="destroy", parking={"off": True})
assert type(foreign.own) is Own
assert events > 10, events
assert inside == [], inside
assert type(foreign.tensors[1]).__name__ == "Destroyed"
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_cancel_stops_between_batches_and_passes(foreign, monkeypatch):
    from memsweep.parking import Parking

    class Cancel(BaseException):
        pass

    def stop(self, done, total):
        raise Cancel

    foreign.tensors = [torch.full((20 * MIB,), 3.0) for _ in range(3)]
    monkeypatch.setattr(Parking, "progress", stop)
    with pytest.raises(Cancel):
        memsweep.park([foreign.tensors])
    assert [tensor.unique().tolist() for tensor in foreign.tensors] == [[3.0]] * 3


@pytest.mark.parametrize(
    ("parking", "words"),
    [
        ({"folder": "/no/such/folder"}, "No such file"),
        ({"folder": "/dev/shm"}, "tmpfs"),
        ({"folder": "/etc/hostname"}, "not a folder"),
        ({"seconds": 0}, "the 0 s for parking were up"),
        ({"bytes": 1}, "beyond the byte limit"),
    ],
)
def test_what_cannot_be_done_is_reported(foreign, parking, words):
    foreign.tensor = torch.ones(MIB)
    report = memsweep.park([foreign.tensor], parking=parking)
    assert words in str(report)
    assert not is_parked(foreign.tensor)


@pytest.mark.parametrize(
    ("parking", "words"),
    [({"seconds": -1}, "seconds"), ({"bytes": -1}, "settings"), ({"speed": 3}, "speed")],
)
def test_invalid_settings_are_a_value_error(parking, words):
    with pytest.raises(ValueError, match=words):
        memsweep.sweep(level="park", parking=parking)


def test_the_environment_sets_what_a_call_does_not(foreign, monkeypatch):
    foreign.tensor = torch.ones(MIB)
    monkeypatch.setenv("MEMSWEEP_PARK_FOLDER", "/dev/shm")
    assert "tmpfs" in str(memsweep.park([foreign.tensor]))
    monkeypatch.setenv("MEMSWEEP_PARK", "off")
    assert "switched off" in str(memsweep.sweep(level="park"))
    monkeypatch.setenv("MEMSWEEP_PARK_SECONDS", "soon")
    with pytest.raises(ValueError, match="MEMSWEEP_PARK_SECONDS is 'soon'"):
        memsweep.sweep(level="park")


def test_threads_that_read_write_and_free_never_see_a_wrong_byte(foreign):
    """Each tensor is filled with one number: a lost write or a wrong page would mix two."""
    seconds = scaled(3, 8, 60)
    # Enough that some are left alone between two looks.
    foreign.slots = [None] * 96
    locks = [threading.Lock() for _ in foreign.slots]
    stop, wrong, turns = threading.Event(), [], [0] * 8

    def value_of(tensor):
        low, high = tensor.min().item(), tensor.max().item()
        if low != high:
            wrong.append((low, high))
        return low

    def fresh(number):
        return torch.full((MIB // 2 + 1000 * number,), float(number))

    def work(thread):
        state = thread + 1
        while not stop.is_set() and not wrong:
            state = (state * 1103515245 + 12345) % 2**31
            # A window that moves on, so that the rest is left alone for a while.
            near = turns[thread] // 20 * 8 + 12 * thread + (state >> 8) % 8
            slot, what = near % len(foreign.slots), (state >> 16) % 7
            with locks[slot]:
                if foreign.slots[slot] is None or what == 0:
                    foreign.slots[slot] = [fresh(slot), float(slot)]
                held = foreign.slots[slot]
                if value_of(held[0]) != held[1]:
                    wrong.append((slot, held[1]))
                if what == 1:
                    held[0].add_(1)
                    held[1] += 1
                elif what == 2:
                    # Taken out of its place while it is written: the count of references stays.
                    tensor = held.pop(0)
                    held.insert(0, tensor.mul_(2))
                    held[1] *= 2
                elif what == 3:
                    held[0].numpy()[:] = state % 1000
                    held[1] = float(state % 1000)
                elif what == 4:
                    held[0].untyped_storage().copy_(fresh(slot).fill_(7).untyped_storage())
                    held[1] = 7.0
                elif what == 5:
                    foreign.slots[slot] = None
                if held[1] > 1e6:
                    foreign.slots[slot] = None
                del held
            turns[thread] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    moved = 0
    try:
        begun, passed = time.monotonic(), 0.0
        # On a busy machine little moves in the time that is meant.
        while not wrong and (passed < seconds or moved <= 20) and passed < 120:
            outcome = parked(memsweep.park([foreign]))
            moved += outcome.get("regions", 0)
            passed = time.monotonic() - begun
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong
    assert moved > 20
    assert min(turns) > 10


ALLOCATORS = {
    "jemalloc": "libjemalloc.so.2",
    "mimalloc": "libmimalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}
UNDER_ANOTHER_ALLOCATOR = """
import sys, threading
import numpy, torch
import memsweep

held = [torch.full((300_000 + 1000 * n,), float(n)) for n in range(40)]
report = memsweep.park([held])
print(report)
assert all(bool((tensor == float(n)).all()) for n, tensor in enumerate(held))
del held
memsweep.sweep(level="trim")

def zeroed():
    # Every size class, a thousand blocks.
    for n in range(1000):
        array = numpy.zeros(1 + int(1.0131**n), dtype=numpy.uint8)
        assert not array.any(), n
        array.fill(255)
        kept.append(array)

kept = []
zeroed()
thread = threading.Thread(target=zeroed)
thread.start()
thread.join()
assert len(kept) == 2000, "the thread failed"
"""


@pytest.mark.parametrize("name", ["none", *ALLOCATORS])
def test_zeroed_memory_is_zero_under_every_allocator(name):
    environment = dict(os.environ)
    if name != "none":
        path = f"/usr/lib/{os.uname().machine}-linux-gnu/{ALLOCATORS[name]}"
        if not os.path.exists(path):
            pytest.skip(f"{path} is not installed")
        environment["LD_PRELOAD"] = path
    result = subprocess.run(
        [sys.executable, "-c", UNDER_ANOTHER_ALLOCATOR],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )
    assert result.returncode == 0, result.stderr
    expected = "moved to disk" if name == "none" else f"memory of {name} cannot be parked"
    assert expected in result.stdout
