"""What keeps memory from being parked while another thread has it: the memory's object, and whatever C code
may borrow that from. What only leads to it by way of an attribute does not."""

import array
import asyncio
import collections
import ctypes
import functools
import gc
import io
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import types

import memsweep
import no_userfaultfd
import pytest
from memsweep._memsweep import notices_writes

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park")

MIB = 2**20


class Plain:
    def __init__(self, held):
        self.held = held

    def method(self):
        """Leads to the instance."""


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


class Derived(Plain, Slotted):
    pass


class Tagged(types.SimpleNamespace):
    """Written in Python, but its base is not."""


class Result(asyncio.Future):
    """As the one that `gather` returns."""


def future(held, kind=asyncio.Future):
    made = kind(loop=LOOP)
    made.set_result([held])
    return made


def task(held):
    async def give():
        return held

    made = LOOP.create_task(give())
    LOOP.run_until_complete(made)
    return made


def pending(held):
    made = asyncio.Future(loop=LOOP)
    made.add_done_callback(functools.partial(print, held))
    return made


def coroutine(held):
    async def wait():
        await Pause()
        print(held)

    made = wait()
    made.send(None)
    return made


class Pause:
    def __await__(self):
        yield


def generator(held):
    def give():
        yield
        print(held)

    made = give()
    next(made)
    return made


def function(held):
    def give(also=held):
        return held, also

    return give


def module(held):
    made = types.ModuleType("memsweep_test_held")
    made.held = held
    return made


def error(held):
    made = ValueError("kept")
    made.held = held
    return made


LOOP = asyncio.new_event_loop()

PASSIVE = {
    "instance": Plain,
    "instance with slots": Slotted,
    "instance of a derived class": Derived,
    "instance by way of another": lambda held: Plain({"deep": [Plain(held)]}),
    "method of an instance": lambda held: Plain(held).method,
    "function": function,
    "module": module,
    "coroutine that waits": coroutine,
    "future that is done": future,
    "future of a class written in Python": functools.partial(future, kind=Result),
    "task that is done": task,
    "list of instances": lambda held: [Plain(held)],
}

LENDERS = {
    "memory": lambda held: held,
    "tuple": lambda held: (held,),
    "list": lambda held: [held],
    "dictionary": lambda held: {"key": held},
    "dictionary of a class": lambda held: collections.OrderedDict(key=held),
    "nested": lambda held: ([{"key": (held,)}],),
    "named tuple": lambda held: collections.namedtuple("Named", "field")(held),
    "deque": lambda held: collections.deque([held]),
    "iterator": lambda held: iter([held]),
    "map": lambda held: map(len, [held]),
    "generator that waits": generator,
    "builtin method": lambda held: held.extend,
    "method wrapper": lambda held: held.__len__,
    "bound method": lambda held: types.MethodType(len, held),
    "partial": lambda held: functools.partial(len, held),
    "cell": lambda held: types.CellType(held),
    "view": memoryview,
    "view in a tuple": lambda held: (memoryview(held),),
    "view of a view": lambda held: memoryview(held)[5:][:99],
    "buffer for pickle": pickle.PickleBuffer,
    "ctypes array": lambda held: (ctypes.c_char * 8).from_buffer(held),
    "instance of a class that is not all Python": lambda held: Tagged(held=held),
    "namespace": lambda held: types.SimpleNamespace(held=held),
    "error": error,
    "future that is not done": pending,
}


by_address = pytest.mark.skipif(
    not notices_writes(), reason="this kernel does not tell what was written"
)


@by_address
@pytest.mark.parametrize("name", PASSIVE)
def test_what_leads_to_memory_by_an_attribute_does_not_keep_it(name):
    assert moves_while_held(PASSIVE[name])


@pytest.mark.parametrize("name", LENDERS)
def test_what_memory_may_be_borrowed_from_keeps_it(name):
    assert not moves_while_held(LENDERS[name])


class Interface:
    """As numpy's own `as_strided` makes it: an array's memory belongs to an instance."""

    def __init__(self, held):
        self.keeper = Plain(held)
        self.__array_interface__ = numpy.frombuffer(held, "u1").__array_interface__


OWNERS = {
    "array of an instance": lambda held: numpy.asarray(Interface(held)),
    "part of such an array": lambda held: numpy.asarray(Interface(held))[5:].reshape(-1, 1),
    "strided array": lambda held: numpy.lib.stride_tricks.as_strided(
        numpy.asarray(Interface(held)), (5, 5), (0, 1)
    ),
    "view of such an array": lambda held: memoryview(numpy.asarray(Interface(held))),
    "such an array in a list": lambda held: [(numpy.asarray(Interface(held)),)],
}


class Answers:
    """A proxy: it has every attribute of another."""

    def __init__(self, held):
        self.held = held

    def __getattr__(self, name):
        if name == "__array_interface__":
            return numpy.frombuffer(self.held, "u1").__array_interface__
        raise AttributeError(name)


class Shows(asyncio.Future):
    """A future that an array's memory belongs to."""


def showing(made, held):
    made.held = held
    made.__array_interface__ = numpy.frombuffer(held, "u1").__array_interface__
    return numpy.asarray(made)


def shown_once(made, held):
    """In a list, which the collector knows: an array alone no walk sees, nor what it belongs to."""
    array = showing(made, held)
    del made.__array_interface__
    return array


OWNERS |= {
    "array of a module that shows it no more": lambda held: [shown_once(types.ModuleType("shows"), held)],
    "array of a function that shows it no more": lambda held: [shown_once(lambda: None, held)],
    "array of a proxy": lambda held: numpy.asarray(Answers(held)),
    "array of a module": lambda held: showing(types.ModuleType("shows"), held),
    "array of a function": lambda held: showing(lambda: None, held),
    "array of a future": lambda held: showing(future(1, Shows), held),
    "array of what a future keeps": lambda held: numpy.asarray(Kept(future(held))),
}


class Kept(Interface):
    """Its memory is in a future."""

    def __init__(self, kept):
        (held,) = kept.result()
        self.keeper = kept
        self.__array_interface__ = numpy.frombuffer(held, "u1").__array_interface__


@pytest.mark.parametrize("name", OWNERS)
def test_what_an_array_belongs_to_may_be_of_any_kind(name):
    assert not moves_while_held(OWNERS[name])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes show no buffers before 3.12")
def test_what_a_view_shows_may_be_of_any_kind():
    class Shown(Plain):
        def __buffer__(self, flags):
            return memoryview(self.held)

    assert not moves_while_held(lambda held: memoryview(Shown(held)))


class Name(str):
    """As the key of a dictionary it is compared by our own code."""

    ran: list = []
    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.ran.append(other)
        return str.__eq__(self, other)


def test_names_of_a_class_of_ones_own_are_not_compared_while_parking():
    named = [Plain(bytearray(8 * MIB)) for _ in range(2)]
    named[0].__dict__[Name("__array_interface__")] = 1
    odd = type("Odd", (Plain,), {Name("__array_struct__"): 1})
    named.append(odd(bytearray(8 * MIB)))
    Name.ran.clear()
    for one in named:
        moves_while_held(lambda held, one=one: one)
    assert not Name.ran


@pytest.mark.parametrize("module", ["_asyncio", "_pickle", "_ctypes"])
@pytest.mark.parametrize("stand_in", [None, types.ModuleType("empty")])
def test_a_stand_in_for_a_module_hinders_nothing(monkeypatch, module, stand_in):
    monkeypatch.setitem(sys.modules, module, stand_in)
    assert moves_while_held(lambda held: None)


class Reader:
    """Reads from a pipe to an address, and nothing but its attribute keeps what lies there."""

    def __init__(self, held):
        self.held = held
        self.address = ctypes.addressof((ctypes.c_char * 1).from_buffer(held)) + MIB
        self.source, self.sink = os.pipe()

    def read(self):
        ctypes.CDLL(None).read(self.source, ctypes.c_void_p(self.address), MIB)


def test_where_the_kernel_writes_to_for_a_thread_stays():
    reader = Reader(bytearray(b"m") * (8 * MIB))
    thread = threading.Thread(target=reader.read)
    thread.start()
    time.sleep(0.2)
    outcome = parking([reader])
    os.write(reader.sink, b"x" * 10)
    thread.join()
    assert not outcome.get("bytes"), outcome
    assert reader.held[MIB : MIB + 11] == b"x" * 10 + b"m"
    os.close(reader.source), os.close(reader.sink)


def test_a_child_that_was_forked_while_parking_changes_nothing_later(monkeypatch):
    from memsweep.parking import Parking

    held = [bytearray(b"m") * (64 * MIB) for _ in range(4)]
    children = []

    def progress(self, done, total):
        for one in held:
            one[len(one) // 2] ^= 1
        if not children:
            children.append(os.fork())
            if children[0] == 0:
                time.sleep(60)
                os._exit(0)

    with monkeypatch.context() as patch:
        patch.setattr(Parking, "progress", progress)
        parking(held)
    try:
        with open("/proc/self/smaps", "rb") as areas:  # names of files are bytes
            flags = [line.split() for line in areas if line.startswith(b"VmFlags")]
        assert flags and not [line for line in flags if b"uw" in line]
        outcome = parking(held)
        assert outcome["bytes"] + outcome["already"] > 250 * MIB, outcome
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_while_nobody_has_it_it_moves():
    assert moves_while_held(lambda held: None)


def test_the_iterator_of_a_pending_future_keeps_what_its_callbacks_hold():
    assert not moves_while_held(lambda held: pending(held).__await__())


def test_memory_of_other_kinds_is_kept_by_its_lenders_too():
    for memory in (array.array("d", bytes(8 * MIB)), bytes(8 * MIB), io.BytesIO(bytes(8 * MIB))):
        kept = memory.getbuffer() if isinstance(memory, io.BytesIO) else memory
        assert not moves_while_held(lambda held, kept=kept: (kept,), memory)


def test_a_tensor_that_nobody_has_moves():
    torch = pytest.importorskip("torch")
    assert moves_while_held(lambda tensor: None, torch.full((2 * MIB,), 1.0))


@pytest.mark.parametrize(
    "make",
    (
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: (tensor.untyped_storage(),),
        lambda tensor: tensor.untyped_storage().fill_,
        lambda tensor: functools.partial(tensor.untyped_storage().fill_, 1),
        lambda tensor: (tensor.view(2, -1).untyped_storage(),),
    ),
    ids=("storage", "tuple", "method", "partial", "of a view"),
)
def test_who_has_a_storage_has_the_memory(make):
    torch = pytest.importorskip("torch")
    assert not moves_while_held(make, torch.full((2 * MIB,), 1.0))


NEEDS_THE_KERNEL = {name for name in PASSIVE if not name.startswith(("coroutine", "future", "task", "module"))}
IN_A_CONTAINER = """
import json
import no_userfaultfd
no_userfaultfd.forbid()
from test_park_holders import LENDERS, OWNERS, PASSIVE, moves_while_held
print(json.dumps({name: moves_while_held(make) for name, make in {**PASSIVE, **LENDERS, **OWNERS}.items()}))
"""


@pytest.mark.skipif(platform.machine() not in no_userfaultfd.NUMBERS, reason="its system calls are not known")
def test_where_the_kernel_does_not_tell_what_was_written_an_instance_keeps_it_too():
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_CONTAINER], cwd=os.path.dirname(__file__),
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert ran.returncode == 0, ran.stderr
    moved = json.loads(ran.stdout)
    assert not any(moved.pop(name) for name in OWNERS)
    assert {name for name, moves in moved.items() if moves} == PASSIVE.keys() - NEEDS_THE_KERNEL


def moves_while_held(make, memory=None):
    """Whether memory is parked while a thread has what `make` makes of it in a variable."""
    memory = bytearray(b"m") * (8 * MIB) if memory is None else memory
    store = Plain(memory)
    held, made = [make(memory)], threading.Event()
    done = threading.Event()

    def hold():
        mine = held.pop()
        made.set()
        done.wait()
        del mine

    thread = threading.Thread(target=hold)
    thread.start()
    made.wait()
    del memory, make
    gc.collect()
    try:
        outcome = parking([store])
    finally:
        done.set()
        thread.join()
    reasons = {row["reason"] for row in outcome.get("refused", [])}
    assert reasons <= {"in use"}, outcome
    return outcome.get("bytes", 0) + outcome.get("already", 0) > 7 * MIB


def parking(objects):
    """What parking says about itself."""
    rows = memsweep.park(objects).to_dict()["rows"]
    return next(row["outcome"] for row in rows if row["action"]["kind"] == "park")
