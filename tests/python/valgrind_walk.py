"""A walk over some thousand objects of every kind of holder, to be run under valgrind.

No test runner: under valgrind each of its imports costs seconds. Answers are checked here all the
same, so that a walk that finds nothing does not pass for a clean one.
"""

import collections
import contextvars
import functools
import sys
import types
import weakref

from memsweep import _memsweep as heap

ROUNDS = 40


class Target:
    pass


class Holder:
    def __init__(self, held):
        self.held = held

    def method(self):
        return self.held


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


def exposed(target):
    holder = Holder(target)
    vars(holder)
    return holder


def replaced(target):
    holder = Holder(None)
    holder.__dict__ = {"held": target}
    return holder


def closure(target):
    return lambda: target


def default(target):
    def function(held=target, *, named=target):
        return held, named

    return function


def generator(target):
    def run(local):
        yield
        return local

    started = run(target)
    next(started)
    return started


def cached(target):
    stash = [target]
    function = functools.lru_cache(lambda _: stash.pop())
    function(1)
    return function


def context(target):
    made = contextvars.Context()
    made.run(contextvars.ContextVar("held").set, target)
    return made


def raised(target):
    try:
        raise ValueError(target)
    except ValueError as error:
        return error


def cycle(target):
    made = [target]
    made.append(made)
    return made


def deep(target):
    for _ in range(200):
        target = [target]
    return target


HOLDERS = [
    lambda target: [target],
    lambda target: (target, 1),
    lambda target: {"held": target},
    lambda target: {target: None},
    lambda target: {target},
    lambda target: frozenset([target]),
    lambda target: collections.deque([target]),
    lambda target: collections.OrderedDict(held=target),
    lambda target: types.SimpleNamespace(held=target),
    lambda target: types.MappingProxyType({"held": target}),
    lambda target: types.CellType(target),
    lambda target: functools.partial(print, target, end=target),
    lambda target: Holder(target).method,
    lambda target: property(closure(target)),
    lambda target: iter([target]),
    Holder,
    Slotted,
    exposed,
    replaced,
    closure,
    default,
    generator,
    cached,
    context,
    raised,
    cycle,
    deep,
]

KEPT = []
LOOSE = []


def fill():
    for _ in range(ROUNDS):
        KEPT.extend(holder(Target()) for holder in HOLDERS)
    # Seen by no walk, so they must not be found through what refers to them weakly.
    LOOSE.extend(Target() for _ in range(ROUNDS))
    KEPT.extend([weakref.ref(target) for target in LOOSE])


def check():
    every = ROUNDS * len(HOLDERS)
    assert heap.self_test()["objects"] > 100

    found = heap.reach([KEPT], (Target,))
    assert len({id(target) for target in found}) == len(found) == every, len(found)
    del found

    found = heap.reach_many([[holder] for holder in KEPT], (Target,))
    assert [len(hits) for hits in found] == [1] * every + [0] * ROUNDS
    del found

    # Half of the holders are protected; a variable of ours uses one more.
    protect = KEPT[: every // 2]
    used = LOOSE[0]
    for frames, pinned in ((None, 1), ([sys._getframe()], 0)):
        found = heap.candidates(protect, (Target,), frames)
        counts = len(found.hits), found.protected, found.pinned
        del found
        rest = every // 2 + ROUNDS - pinned
        assert counts == (rest, every // 2, pinned), counts
    found = heap.candidates(protect, (Target,), check_pinned=False)
    assert (len(found.hits), found.pinned) == (every // 2 + ROUNDS, None)
    del found

    # The list that is passed is the call's own, and pins nothing.
    assert heap.pinned([LOOSE[0], LOOSE[1]]) == [True, False]
    assert heap.pinned([LOOSE[0], LOOSE[1]], [sys._getframe()]) == [False, False]
    del used, protect


if __name__ == "__main__":
    fill()
    check()
    print(f"{len(KEPT)} holders walked")
