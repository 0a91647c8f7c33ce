"""torch: its own loops write. Each call works for a long time on what does not change, and changes one number
at its end."""

from __future__ import annotations

import torch

from meter.holders import Shadowed
from meter.native import native
from meter.rounds import HELD, Kind, thread

SIDE = 1024
# Only whole pages are parked: what changes must not lie in the last one.
LATE = (-3, -1)


class Capsule(Shadowed):
    def __init__(self) -> None:
        HELD["tensor"] = torch.zeros(SIDE * SIDE)
        HELD["tensor"].add_(0)
        self.use(HELD["tensor"].data_ptr(), HELD["tensor"].nbytes)

    def run(self) -> None:
        capsule = HELD["tensor"].__dlpack__()
        self.write()
        del capsule


class Storage(Capsule):
    def run(self) -> None:
        storage = HELD["tensor"].untyped_storage()
        self.write()
        del storage


class InSet(Capsule):
    """A set that a call holds."""

    def start(self) -> object:
        return thread(native.write_for, {HELD["tensor"]}, *self.arguments())


def watch_late(tensor: torch.Tensor) -> None:
    """The place of the write that can be lost. Waiting for it anywhere else would only waste time."""
    row = tensor[LATE[0]]
    native.watch(row.data_ptr(), row.nbytes)


class Computed(Kind):
    """Tensors, and what must be in them."""

    COUNT = 1

    def __init__(self) -> None:
        HELD["tensors"] = [torch.full((SIDE, SIDE), 7.0) for _ in range(self.COUNT)]
        self.expected = 7.0
        for tensor in HELD["tensors"]:
            watch_late(tensor)

    def start(self) -> object:
        self.expected += 1
        return thread(self.run)

    def run(self) -> None:
        raise NotImplementedError

    def memory(self) -> list[torch.Tensor]:
        return HELD["tensors"]

    def lost(self) -> int:
        expected = torch.full((SIDE, SIDE), 7.0)
        expected[LATE] = self.expected
        return sum(int((tensor != expected).sum()) for tensor in self.memory())


class Add(Computed):
    """In place, and the other operand is read across its rows, which is slow."""

    times, most = 3, 8

    def __init__(self) -> None:
        self.make()

    def make(self) -> None:
        self.side = self.times * SIDE
        HELD["tensor"] = torch.full((self.side, self.side), 7.0)
        self.expected = 7.0
        native.forget()
        watch_late(HELD["tensor"])

    def start(self) -> object:
        if self.side != self.times * SIDE:
            self.make()
        return super().start()

    def run(self) -> None:
        other = torch.zeros(self.side, self.side).t()
        other[LATE] = 1
        native.enter()
        HELD["tensor"].add_(other)
        native.leave()

    def lost(self) -> int:
        expected = torch.full((self.side, self.side), 7.0)
        expected[LATE] = self.expected
        return int((HELD["tensor"] != expected).sum())


class ForEach(Computed):
    """In place, on a list of tensors; each many times over."""

    times, most = 20, 1280
    COUNT = 4

    def run(self) -> None:
        nothing = torch.zeros(SIDE, SIDE)
        one = nothing.clone()
        one[LATE] = 1
        others = [nothing] * self.COUNT * (self.times - 1) + [one] * self.COUNT
        native.enter()
        torch._foreach_add_(HELD["tensors"] * self.times, others)
        native.leave()


class Backward(Computed):
    """Adds to an existing gradient, by a backward pass that works on other things first."""

    times, most = 6, 96

    def __init__(self) -> None:
        parameter = HELD["parameter"] = torch.zeros(SIDE, SIDE, requires_grad=True)
        parameter.grad = torch.full((SIDE, SIDE), 7.0)
        self.expected = 7.0
        watch_late(parameter.grad)
        HELD["matrix"] = torch.eye(SIDE)

    def run(self) -> None:
        only_late = torch.zeros(SIDE, SIDE)
        only_late[LATE] = 1
        value = HELD["parameter"] * only_late
        for _ in range(self.times):
            value = value @ HELD["matrix"]
        loss = value.sum()
        del value, only_late
        native.enter()
        # Giving up the graph asks for the interpreter lock in the middle of the call.
        loss.backward(retain_graph=True)
        native.leave()

    def memory(self) -> list[torch.Tensor]:
        return [HELD["parameter"].grad]


KINDS = {
    "DLPack": Capsule,
    "torch storage": Storage,
    "set of tensors": InSet,
    "torch add_": Add,
    "torch foreach": ForEach,
    "backward into .grad": Backward,
}
