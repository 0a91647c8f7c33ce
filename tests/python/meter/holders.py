"""Who holds a buffer while our own C function writes into it."""

from __future__ import annotations

import asyncio
import collections
import ctypes
import functools
import types
from collections.abc import Callable

from memsweep._memsweep import notices_writes

from meter.native import PAGE, address, native
from meter.rounds import HELD, Kind, thread

BYTES = 4 * 2**20


class Shadowed(Kind):
    """Memory with one number per page that is counted elsewhere too."""

    def __init__(self) -> None:
        HELD["buffer"] = bytearray(b"m") * BYTES
        self.use(address(HELD["buffer"]), BYTES)

    def use(self, start: int, size: int) -> None:
        # The pages that lie inside, so that a number never lies across two.
        self.first = -(-start // PAGE) * PAGE
        self.pages = (start + size - self.first) // PAGE
        self.shadow = (ctypes.c_uint64 * self.pages)()
        native.watch(start, size)
        self.reset()

    def numbers(self) -> ctypes.Array:
        # The offset of the middle of each page, as 8-byte numbers.
        return (ctypes.c_uint64 * (self.pages * PAGE // 8)).from_address(self.first)

    def reset(self) -> None:
        numbers = self.numbers()
        for page in range(self.pages):
            numbers[(page * PAGE + PAGE // 2) // 8] = 0

    def write(self) -> None:
        native.write(*self.arguments())

    def arguments(self) -> tuple:
        return self.first, self.pages, ctypes.addressof(self.shadow)

    def lost(self) -> int:
        numbers = self.numbers()
        return sum(
            abs(count - numbers[(page * PAGE + PAGE // 2) // 8])
            for page, count in enumerate(self.shadow)
        )

    def start(self) -> object:
        return thread(self.run)

    def run(self) -> None:
        raise NotImplementedError


class Frame(Shadowed):
    def run(self) -> None:
        held = HELD["buffer"]
        self.write()
        del held


class ListOnStack(Shadowed):
    """A list that waits on the frame's evaluation stack for the call to have all its arguments."""

    def run(self) -> None:
        len_of(2, [HELD["buffer"]], self.write())


class ListInC(Shadowed):
    """A list that is being sorted: its items are in C variables only."""

    def run(self) -> None:
        first = [1]
        [first, [HELD["buffer"]]].sort(key=lambda item: self.write() or 0 if item is first else 1)


class Argument(Shadowed):
    """The argument of a C function, called by another one: C variables alone hold it."""

    def run(self) -> None:
        # A generator does not hold what it gave out, and `map` keeps nothing.
        given = (HELD["buffer"] for _ in range(1))
        list(map(native.write_for, given, *([argument] for argument in self.arguments())))


class Owner:
    """Its methods write to what its attribute holds."""

    def __init__(self, kind: Shadowed) -> None:
        self.kind, self.buffer = kind, HELD.pop("buffer")

    def write(self) -> None:
        native.write_for(self.buffer, *self.kind.arguments())

    def write_by_address(self) -> None:
        self.kind.write()


class Attribute(Shadowed):
    """The call holds what it was given; the thread holds only the instance."""

    def __init__(self) -> None:
        super().__init__()
        HELD["owner"] = Owner(self)

    def start(self) -> object:
        return thread(HELD["owner"].write)


class BareAddress(Attribute):
    """The call has nothing but an address. References cannot show that; the kernel may."""

    @classmethod
    def not_here(cls) -> str | None:
        return None if notices_writes() else "this kernel does not tell what was written"

    def start(self) -> object:
        return thread(HELD["owner"].write_by_address)


class Lent(Shadowed):
    """What a call holds while C code works on memory that it borrowed from there."""

    def start(self) -> object:
        return thread(native.write_for, self.lender(HELD["buffer"]), *self.arguments())

    def lender(self, buffer: bytearray) -> object:
        raise NotImplementedError


def lent(make: Callable[[bytearray], object]) -> type[Lent]:
    class Made(Lent):
        def lender(self, buffer: bytearray) -> object:
            return make(buffer)

    return Made


class View(Shadowed):
    def run(self) -> None:
        view = memoryview(HELD["buffer"])[PAGE:]
        self.write()
        view.release()


class CtypesArray(Shadowed):
    def run(self) -> None:
        array = (ctypes.c_char * BYTES).from_buffer(HELD["buffer"])
        self.write()
        del array


class Partial(Shadowed):
    def start(self) -> object:
        return thread(functools.partial(native.write_for, HELD["buffer"], *self.arguments()))


class Closure(Shadowed):
    def start(self) -> object:
        return thread(self.made(HELD["buffer"]))

    def made(self, buffer: bytearray) -> object:
        def write() -> int:
            self.write()
            return len(buffer)

        return write


class Generator(Shadowed):
    def start(self) -> object:
        return thread(next, self.steps(), None)

    def steps(self) -> object:
        held = HELD["buffer"]
        self.write()
        yield len(held)


class Coroutine(Shadowed):
    def start(self) -> object:
        return thread(lambda: asyncio.run(self.work()))

    async def work(self) -> None:
        held = HELD["buffer"]
        await asyncio.sleep(0)
        self.write()
        del held


def len_of(*arguments: object) -> int:
    return len(arguments)


KINDS = {
    "frame": Frame,
    "list on the stack": ListOnStack,
    "list in C": ListInC,
    "argument in C": Argument,
    "attribute": Attribute,
    "bare address": BareAddress,
    "memoryview": View,
    "ctypes array": CtypesArray,
    "functools.partial": Partial,
    "closure": Closure,
    "generator": Generator,
    "coroutine": Coroutine,
    "tuple": lent(lambda buffer: (buffer,)),
    "list": lent(lambda buffer: [buffer]),
    "dictionary": lent(lambda buffer: {"key": buffer}),
    "deque": lent(lambda buffer: collections.deque([buffer])),
    "iterator": lent(lambda buffer: iter([buffer])),
    "method": lent(lambda buffer: types.MethodType(len, buffer)),
    "builtin method": lent(lambda buffer: buffer.extend),
    "partial": lent(lambda buffer: functools.partial(len, buffer)),
    "cell": lent(types.CellType),
}
