"""What is in use by something a traversal cannot see, and what only seems so."""

import functools
import gc
import itertools
import sys
import threading

import pytest
from memsweep import _memsweep as heap


class Target:
    pass


class Box:
    def __init__(self, held=None):
        self.held = held


KEPT = {}


@pytest.fixture(autouse=True)
def _empty():
    KEPT.clear()
    gc.collect()
    yield
    KEPT.clear()


def keep(name, value):
    KEPT[name] = value


def answer(*names, frames=None):
    # The list exists on the caller's stack only, so no variable of ours holds the objects.
    return heap.pinned([KEPT[name] for name in names], frames)


def test_an_object_in_a_global_is_not_pinned():
    keep("free", Target())
    keep("inside", Box(Box(Target())))
    assert answer("free", "inside") == [False, False]


def test_every_kind_of_visible_holder_explains():
    class Slotted:
        __slots__ = ("held",)

    slotted = Slotted()
    slotted.held = Target()
    KEPT["slot"] = slotted
    del slotted
    KEPT["dict"] = {"a": Target()}
    KEPT["exposed"] = Box(Target())
    vars(KEPT["exposed"])
    KEPT["partial"] = functools.partial(print, Target())
    KEPT["tuple"] = (Target(), [Target()])
    KEPT["closure"] = (lambda held: lambda: held)(Target())
    found = heap.candidates([], (Target,))
    assert (len(found.hits), found.pinned) == (7, 0)


def test_many_objects_whose_dictionaries_were_made_are_not_pinned():
    KEPT["boxes"] = [Box(Target()) for _ in range(500)]
    for box in KEPT["boxes"]:
        vars(box)
    del box
    found = heap.candidates([], (Target,))
    assert (len(found.hits), found.pinned) == (500, 0)


def test_a_variable_pins_and_a_given_frame_explains_it():
    held = KEPT["held"] = Target()
    KEPT["other"] = Target()
    assert answer("held", "other") == [True, False]
    assert answer("held", "other", frames=[sys._getframe()]) == [False, False]
    assert held is not None


def test_a_variable_in_a_cell_is_explained_by_its_frame():
    held = KEPT["held"] = Box(Target())

    def reads():
        return held

    assert answer("held") == [True]
    assert answer("held", frames=[sys._getframe()]) == [False]
    assert reads() is held


def test_what_a_running_closure_reads_is_explained_by_its_frame():
    def outer():
        held = KEPT["held"] = Target()

        def inner():
            return held is not None, answer("held", frames=[sys._getframe(), sys._getframe(1)])

        return inner()

    # On 3.10 a frame does not hold its function, the stack of its caller does, and stays unexplained.
    assert outer() == (True, [sys.version_info < (3, 11)])


def test_a_list_on_the_stack_pins_what_it_holds():
    keep("weight", Target())
    keep("item", Target())
    # While the call runs, the first element exists on this frame's evaluation stack only.
    result = [Box(KEPT["item"]), answer("item", "weight")]
    assert result[1] == [True, False]
    del result
    assert answer("item", "weight") == [False, False]


def test_an_argument_of_c_code_pins_what_it_holds():
    keep("item", Box(Target()))
    keep("other", Target())
    seen = []

    def key(number):
        if not seen:
            seen.append(answer("item", "other"))
        return number

    # sorted keeps its input on the C stack while the key function runs.
    sorted(itertools.chain([1, 2], (n for n in [3])), key=key)
    assert seen == [[False, False]]
    seen.clear()
    sorted([[KEPT["item"]], [KEPT["other"]]], key=lambda pair: key(1))
    assert seen == [[True, True]]


def test_a_frame_that_is_not_ours_explains_nothing():
    keep("item", Target())
    ready, done = threading.Event(), threading.Event()
    frames = []

    def other():
        held = KEPT["item"]
        frames.append(sys._getframe())
        ready.set()
        done.wait()
        return held

    thread = threading.Thread(target=other)
    thread.start()
    try:
        ready.wait()
        assert answer("item", frames=frames) == [True]
    finally:
        done.set()
        thread.join()
        frames.clear()
    del thread
    assert answer("item") == [False]


def test_a_running_generator_of_another_thread_pins():
    keep("item", Target())
    ready, done = threading.Event(), threading.Event()

    def held_by(local):
        ready.set()
        done.wait()
        yield local

    KEPT["generator"] = held_by(KEPT["item"])
    thread = threading.Thread(target=lambda: next(KEPT["generator"]))
    thread.start()
    try:
        ready.wait()
        assert answer("item") == [True]
    finally:
        done.set()
        thread.join()
    assert answer("item") == [False]


def test_a_suspended_generator_is_a_holder_like_any_other():
    def generator(local):
        yield
        return local

    KEPT["generator"] = generator(Target())
    next(KEPT["generator"])
    found = heap.candidates([], (Target,))
    assert (len(found.hits), found.pinned) == (1, 0)


def test_candidates_sorts_protected_pinned_and_free():
    keep("free", Target())
    keep("connected", Box(Target()))
    used = KEPT["used"] = Target()
    found = heap.candidates([KEPT["connected"]], (Target,))
    assert [item is KEPT["free"] for item in found.hits] == [True]
    assert (found.protected, found.pinned) == (1, 1)
    assert found.visited > 1000
    found = heap.candidates([KEPT["connected"]], (Target,), [sys._getframe()])
    # The frame holds the earlier answer too, but what it holds is explained.
    assert {id(item) for item in found.hits} == {id(KEPT["free"]), id(used)}
    assert (found.protected, found.pinned) == (1, 0)


def test_unasked_is_unknown():
    keep("free", Target())
    found = heap.candidates([], (Target,), check_pinned=False)
    assert [item is KEPT["free"] for item in found.hits] == [True]
    assert found.pinned is None


def test_instances_the_collector_does_not_list_are_found():
    class Text(str):
        __slots__ = ()

    keep("text", [Text("a")])
    keep("frozen", Target())
    for check in (False, True):
        found = heap.candidates([], (Text,), check_pinned=check)
        assert [type(item) for item in found.hits] == [Text]
        del found
    gc.freeze()
    try:
        for check in (False, True):
            found = heap.candidates([], (Target,), check_pinned=check)
            assert [item is KEPT["frozen"] for item in found.hits] == [True]
            del found
    finally:
        gc.unfreeze()


def test_reading_a_frame_leaves_it_as_it_was():
    def function():
        held = KEPT["held"] = Target()
        before = sys.getrefcount(held)
        assert answer("held", frames=[sys._getframe()]) == [False]
        after = sys.getrefcount(held)
        snapshot = locals()
        answer("held", frames=[sys._getframe()])
        return before, after, snapshot

    before, after, snapshot = function()
    assert before == after
    assert snapshot["before"] == before, "a dictionary that locals() gave out was emptied"
