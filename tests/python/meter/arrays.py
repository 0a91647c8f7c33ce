"""numpy: its own loops write, and only an argument or a bound method holds the memory.

Each call works for a long time on what does not change, and changes one number at its end.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy

from meter.holders import Shadowed
from meter.native import native
from meter.rounds import HELD, Kind, marked, thread

COUNT = 2**19
# Only whole pages are parked: what changes must not lie in the last one.
TAIL = 2048


class Frame(Shadowed):
    def __init__(self) -> None:
        HELD["buffer"] = numpy.zeros(COUNT)
        self.use(HELD["buffer"].ctypes.data, HELD["buffer"].nbytes)
        HELD["buffer"] += 0.0

    def run(self) -> None:
        view = HELD["buffer"][5:]
        self.write()
        del view


class Shown:
    """An instance that shows memory which another one keeps alive."""

    def __init__(self, array: numpy.ndarray) -> None:
        self.__array_interface__ = array.__array_interface__
        self.keeper = type("Keeper", (), {})()
        self.keeper.array = array


class OfAnInstance(Frame):
    def run(self) -> None:
        view = numpy.asarray(Shown(HELD["buffer"]))
        self.write()
        del view


class Repeated(Kind):
    """The same memory many times over; the last time, a different number comes into the window."""

    times, most = 50, 3200

    def __init__(self) -> None:
        HELD["array"] = numpy.full(COUNT + TAIL, 7.0)
        self.calls = 0
        # The place of the write that can be lost. Waiting for it anywhere else would only waste time.
        late = HELD["array"][COUNT - 1 :][:1]
        native.watch(late.ctypes.data, late.nbytes)

    def operands(self) -> tuple:
        """The target and the source. The first is a view, and nothing but the call may hold it."""
        self.calls += 1
        base = numpy.full(COUNT + self.times - 1, 7.0)
        base[-1] = self.calls
        shape, strides = (self.times, COUNT), (0, 8)
        repeated = numpy.lib.stride_tricks.as_strided(HELD["array"], shape, strides)
        return repeated, numpy.lib.stride_tricks.sliding_window_view(base, COUNT)

    def lost(self) -> int:
        expected = numpy.full(COUNT + TAIL, 7.0)
        expected[COUNT - 1] = self.calls
        return int((HELD["array"] != expected).sum())


class Out(Repeated):
    def start(self) -> object:
        return thread(self.run, *self.operands())

    def run(self, into: numpy.ndarray, source: numpy.ndarray) -> None:
        native.enter()
        numpy.add(source, 0.0, out=into)
        native.leave()


class CopyTo(Repeated):
    """In a call on a pool, only the tuple of arguments holds the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPoolExecutor(1)

    def start(self) -> object:
        self.pool.submit(native.enter)
        self.pool.submit(numpy.copyto, *self.operands())
        return Last(self.pool.submit(native.leave))

    def close(self) -> None:
        self.pool.shutdown()


class Last:
    """The end of what was given to a pool."""

    def __init__(self, future: object) -> None:
        self.future = future

    def join(self) -> None:
        self.future.result()

    def is_alive(self) -> bool:
        return not self.future.done()


class Sort(Kind):
    """A thread whose target is a bound method of C: nothing else holds the array.

    Rows are sorted one by one, and only the last but one is not in order. Nothing takes as long for its size as
    texts of one letter: 10 ms for a MiB, where numbers take 1.
    """

    times, most = 1, 64
    COLUMNS = 4096

    def __init__(self) -> None:
        self.make()
        self.calls = 0

    def make(self) -> None:
        HELD["array"] = numpy.full((self.times * 256, self.COLUMNS), b"m")
        native.forget()
        # Where the write comes that can be lost.
        native.watch(HELD["array"][-2].ctypes.data, HELD["array"][-2].nbytes)

    def start(self) -> object:
        if len(HELD["array"]) != self.times * 256:
            self.make()
        self.calls += 1
        HELD["array"][-2] = self.letters()
        return marked(HELD["array"].sort)

    def letters(self) -> numpy.ndarray:
        generator = numpy.random.default_rng(self.calls)
        return generator.integers(97, 123, self.COLUMNS, dtype="u1").view("S1")

    def lost(self) -> int:
        wrong = HELD["array"][-2] != numpy.sort(self.letters())
        return int(wrong.sum() + (HELD["array"][:-2] != b"m").sum())


KINDS = {
    "numpy array": Frame,
    "array of an instance": OfAnInstance,
    "numpy out=": Out,
    "submit(numpy.copyto)": CopyTo,
    "Thread(target=array.sort)": Sort,
}
