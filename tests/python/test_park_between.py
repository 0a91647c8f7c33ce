"""What happens to memory between the walk that finds its holders and the hold in which it moves."""

import collections
import gc
import json
import os
import platform
import subprocess
import sys
import threading
import weakref

import no_userfaultfd
import pytest
from memsweep.parking import Parking

numpy = pytest.importorskip("numpy")

from test_park_holders import LENDERS, MIB, OWNERS, Answers, Plain, Tagged, generator, parking  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park")


def parked_after(store, happens):
    """What parking says when something happens after the walk, before anything has moved."""
    past, begun = Parking.progress, []

    def progress(self, done, total):
        if not begun:
            begun.append(done)
            happens()

    Parking.progress = progress
    try:
        outcome = parking([store])
    finally:
        Parking.progress = past
    assert begun == [0], outcome
    return outcome


def stays(store, happens):
    outcome = parked_after(store, happens)
    reasons = {row["reason"] for row in outcome["refused"]}
    return not outcome["bytes"] and reasons == {"came into use in the meantime"}


class Holder:
    """A thread that has something in a variable."""

    def __init__(self, take):
        self._taken, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(take,))

    def _hold(self, take):
        mine = take()
        self._taken.set()
        self._done.wait()
        del mine

    def begin(self):
        self._thread.start()
        self._taken.wait()

    def end(self):
        self._done.set()
        self._thread.join()


def stays_when_taken(make):
    store = Plain(bytearray(b"m") * (8 * MIB))
    holder = Holder(lambda: make(store.held))
    try:
        return stays(store, holder.begin)
    finally:
        holder.end()


BETWEEN = LENDERS | OWNERS


@pytest.mark.parametrize("name", BETWEEN)
def test_who_takes_it_keeps_it(name):
    assert stays_when_taken(BETWEEN[name])


KEEPS = {
    "list": lambda held: [held],
    "dictionary": lambda held: {"key": (held,)},
    "dictionary of a class": lambda held: collections.OrderedDict(key=held),
    "dictionary with a default": lambda held: collections.defaultdict(list, key=[held]),
    "deque": lambda held: collections.deque([held]),
    "instance of a class that is not all Python": lambda held: Tagged(held=held),
    "proxy": Answers,
    "generator that waits": generator,
}


@pytest.mark.parametrize("name", KEEPS)
def test_while_only_the_program_keeps_it_it_moves(name):
    store = Plain(KEEPS[name](bytearray(b"m") * (8 * MIB)))
    assert parked_after(store, gc.collect)["bytes"] >= 7 * MIB


@pytest.mark.parametrize("make", (list, collections.deque), ids=("list", "deque"))
def test_what_changes_hands_stays(make):
    """As many references as before, by somebody else."""
    shelf = make([bytearray(b"m") * (8 * MIB)])
    holder = Holder(lambda: shelf.pop())
    try:
        assert stays(Plain(shelf), holder.begin)
    finally:
        holder.end()


def test_who_takes_what_leads_to_it_keeps_it():
    """The memory has as many references as before."""
    store = Plain([[(bytearray(b"m") * (8 * MIB),)]])
    holder = Holder(lambda: store.held[0])
    try:
        assert stays(store, holder.begin)
    finally:
        holder.end()


def test_who_takes_another_tensor_of_the_same_memory_keeps_it():
    torch = pytest.importorskip("torch")
    tensor = torch.full((2 * MIB,), 7.0)
    store = Plain([tensor, tensor.detach(), tensor.detach()])
    del tensor
    for number in range(3):
        holder = Holder(lambda number=number: store.held[number])
        try:
            assert stays(store, holder.begin)
        finally:
            holder.end()


def test_a_buffer_among_the_holders_keeps_it():
    """Whoever fills a buffer may have nothing but its address."""
    memory = bytearray(b"m") * (8 * MIB)
    store = Plain([memory, memoryview(memory)])
    del memory
    assert not parking([store]).get("bytes")
    store.held.pop()
    assert parking([store])["bytes"] >= 7 * MIB


def test_what_goes_from_one_known_holder_to_another_stays_or_moves_whole():
    store = Plain({"here": bytearray(b"m") * (8 * MIB), "there": []})

    def move():
        store.held["there"].append(store.held.pop("here"))

    outcome = parked_after(store, move)
    assert outcome["bytes"] == 0 or outcome["bytes"] >= 7 * MIB
    assert store.held["there"][0] == b"m" * (8 * MIB)


def test_parking_keeps_no_memory_alive():
    class Array(numpy.ndarray):
        """One that can be referred to weakly."""

    shelf = [numpy.ndarray.__new__(Array, (MIB,))]
    shelf[0].fill(7)
    seen, gone = weakref.ref(shelf[0]), []

    def forget():
        shelf.clear()
        gone.append(seen() is None)

    outcome = parked_after(Plain(shelf), forget)
    assert gone == [True]
    assert not outcome["bytes"]


@pytest.mark.parametrize("turn", range(5))
def test_what_takes_the_place_of_the_dead_is_not_mistaken_for_them(turn):
    shelf = [[(bytearray(b"m") * (2 * MIB + number),)] for number in range(40)]
    heirs = []

    def replace():
        shelf.clear()
        for number in range(2000):
            heirs.extend((bytearray(5), (number, []), [number], {"key": number}, Plain(number), iter([number])))
        heirs.extend(bytearray(b"h") * (2 * MIB + number) for number in range(40))

    outcome = parked_after(Plain(shelf), replace)
    assert not outcome["bytes"]
    assert all(set(heir) == {ord("h")} for heir in heirs[-40:])


@pytest.mark.parametrize("how", ("its class", "its attribute"))
def test_an_instance_that_shows_memory_by_then_keeps_it(how):
    store = Plain(bytearray(b"m") * (8 * MIB))

    def change():
        if how == "its class":
            store.__class__ = Answers
        else:
            store.__array_interface__ = numpy.frombuffer(store.held, "u1").__array_interface__

    assert stays(store, change)


def test_a_generator_that_runs_by_then_keeps_what_it_has():
    pause, go_on = threading.Event(), threading.Event()

    def give(held):
        yield
        pause.set()
        go_on.wait()
        yield held

    store = Plain(give(bytearray(b"m") * (8 * MIB)))
    next(store.held)
    thread = threading.Thread(target=next, args=(store.held,))

    def resume():
        thread.start()
        pause.wait()

    try:
        assert stays(store, resume)
    finally:
        go_on.set()
        thread.join()


@pytest.mark.parametrize("make", (
    lambda tensor: tensor[5:],
    lambda tensor: tensor.numpy(),
    lambda tensor: (tensor.untyped_storage(),),
    lambda tensor: memoryview(tensor.numpy()),
    lambda tensor: tensor.untyped_storage().fill_,
    lambda tensor: __import__("torch").utils.dlpack.to_dlpack(tensor),
    lambda tensor: tensor.detach(),
), ids=("view", "array", "storage", "memoryview", "method of the storage", "capsule", "detached"))
def test_who_takes_a_tensors_memory_keeps_it(make):
    torch = pytest.importorskip("torch")
    store = Plain(torch.full((2 * MIB,), 7.0))
    holder = Holder(lambda: make(store.held))
    try:
        assert stays(store, holder.begin)
    finally:
        holder.end()


WITHOUT_THE_KERNEL = """
import json
import no_userfaultfd
no_userfaultfd.forbid()
from test_park_between import BETWEEN, stays_when_taken
print(json.dumps([name for name, make in BETWEEN.items() if not stays_when_taken(make)]))
"""


@pytest.mark.skipif(platform.machine() not in no_userfaultfd.NUMBERS, reason="its system calls are not known")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 leaves what a call passes on the caller's stack too")
def test_where_the_kernel_does_not_tell_what_was_written_who_takes_it_keeps_it_too():
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_KERNEL], cwd=os.path.dirname(__file__),
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []
