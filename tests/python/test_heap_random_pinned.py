"""Random graphs with holders that no traversal shows: what they reach is pinned, and nothing else.

The test knows the answer because it hides the references itself. It must hide no other, so objects
exist in `KEPT` alone and everything else here says numbers.
"""

import contextvars
import ctypes
import functools
import gc
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memsweep import _memsweep as heap
from random_graphs import Node, Slots, build, indices, naive, recipes
from extent import scaled

KEPT = []
FRAMES = []
HELD = contextvars.ContextVar("held")
WANTED = (Node, Slots)


def _variable(index, ask):
    held = KEPT[index]
    answer = ask()
    del held
    return answer


def _explained_variable(index, ask):
    held = KEPT[index]
    FRAMES.append(sys._getframe())
    answer = ask()
    del held
    return answer


def _evaluation_stack(index, ask):
    return [KEPT[index], ask()][1]


def _c_stack(index, ask):
    answers = []

    def key(_):
        if not answers:
            answers.append(ask())
        return 0

    # The first call sees the empty list. The other is in the array that is sorted, and nowhere else.
    sorted(iter([[], [KEPT[index]]]), key=key)
    return answers[0]


def _argument(index, ask):
    return next(map(lambda held: ask(), [KEPT[index]]))


def _running_generator(index, ask):
    def generator(held):
        yield ask()

    return next(generator(KEPT[index]))


def _other_thread(index, ask):
    ready, done = threading.Event(), threading.Event()

    def other():
        held = KEPT[index]
        ready.set()
        done.wait()
        del held

    thread = threading.Thread(target=other)
    thread.start()
    try:
        ready.wait()
        return ask()
    finally:
        done.set()
        thread.join()


def _running_generator_of_another_thread(index, ask):
    ready, done = threading.Event(), threading.Event()

    def generator(held):
        ready.set()
        done.wait()
        yield

    thread = threading.Thread(target=lambda: next(generator(KEPT[index])))
    thread.start()
    try:
        ready.wait()
        return ask()
    finally:
        done.set()
        thread.join()


def _handled_exception(index, ask):
    try:
        raise ValueError(KEPT[index])
    except ValueError:
        return ask()


def _current_context(index, ask):
    def run():
        HELD.set(KEPT[index])
        return ask()

    return contextvars.copy_context().run(run)


def _c_code(index, ask):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(KEPT[index]))
    try:
        return ask()
    finally:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(KEPT[index]))


HIDING = [
    _variable,
    _evaluation_stack,
    _c_stack,
    _argument,
    _running_generator,
    _other_thread,
    _running_generator_of_another_thread,
    _handled_exception,
    _current_context,
    _c_code,
]
HOLDERS = [*HIDING, _explained_variable]


@st.composite
def cases(draw):
    """A recipe, which objects are held and how, and which are protected."""
    recipe = draw(recipes())
    held = draw(indices(recipe, 4))
    holders = [(draw(st.integers(0, len(HOLDERS) - 1)), index) for index in held]
    return recipe, holders, draw(indices(recipe, 2))


def hold(holders, ask):
    if not holders:
        return ask()
    (holder, index), *rest = holders
    return HOLDERS[holder](index, lambda: hold(rest, ask))


def hidden(holders):
    return [index for holder, index in holders if HOLDERS[holder] in HIDING]


def reached(kept):
    return set(naive([KEPT[index] for index in kept]))


def positions(numbers):
    return [index for index, item in enumerate(KEPT) if id(item) in numbers]


@pytest.fixture(autouse=True)
def _empty():
    yield
    clear()


def clear():
    FRAMES.clear()
    KEPT.clear()
    # Exceptions keep the frames that made the graph, and these keep the graph.
    gc.collect()


@settings(max_examples=scaled(10, 25, 400), deadline=None)
@given(cases())
def test_what_hidden_holders_reach_is_pinned_and_nothing_else(case):
    recipe, holders, _ = case
    clear()
    KEPT[:] = build(recipe)
    answer = hold(holders, lambda: heap.pinned(KEPT, FRAMES))
    pinned = [index for index, is_pinned in enumerate(answer) if is_pinned]
    assert pinned == positions(reached(hidden(holders)))


def ask_for_candidates(protect):
    found = heap.candidates([KEPT[index] for index in protect], WANTED, FRAMES)
    return {id(hit) for hit in found.hits}, found.protected, found.pinned


@settings(max_examples=scaled(10, 25, 400), deadline=None)
@given(cases())
def test_candidates_are_what_neither_protected_nor_hidden_holders_reach(case):
    recipe, holders, protect = case
    clear()
    KEPT[:] = build(recipe)
    hits, protected, pinned = hold(holders, functools.partial(ask_for_candidates, protect))
    everything = {id(item) for item in gc.get_objects() if issubclass(type(item), WANTED)}
    safe = everything & reached(protect)
    used = everything & reached(hidden(holders)) - safe
    assert hits == everything - safe - used
    assert (protected, pinned) == (len(safe), len(used))
