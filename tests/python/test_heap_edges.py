"""The references that a walk follows, as the collector reports them, and the names that parents give their
children."""

import collections
import functools
import gc
import sys
import types

import pytest
from extent import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from memsweep import _memsweep as heap
from random_graphs import BOUNDARY, build, indices, recipes


@st.composite
def graphs(draw):
    """Objects in creation order, some of them as roots, and a number that picks one."""
    recipe = draw(recipes())
    made = build(recipe)
    return made, [made[root] for root in draw(indices(recipe, 3))], draw(st.integers(0, 1000))


def referents(item):
    """What the collector says an object refers to, less what the walk leaves out."""
    found = collections.Counter(id(child) for child in gc.get_referents(item))
    if isinstance(item, types.FunctionType):
        found[id(item.__globals__)] -= 1
    return +found


def is_hidden_dictionary(label):
    # 3.13 does not report a dictionary that shares the object's inline values.
    return sys.version_info >= (3, 13) and label == ("attribute", "__dict__")


@settings(max_examples=scaled(30, 100, 2000), deadline=None)
@given(graphs())
def test_the_edges_are_the_referents_of_what_is_reached(graph):
    _, roots, _ = graph
    reached = heap.reach(roots, (object,))
    looked_through = {
        id(item.gi_frame) for item in reached if isinstance(item, types.GeneratorType)
    } if sys.version_info < (3, 11) else set()
    # Before the edges are asked for: their labels may make dictionaries.
    expected = {
        id(item): referents(item)
        for item in reached
        if not isinstance(item, BOUNDARY) or id(item) in looked_through
    }
    found = collections.defaultdict(collections.Counter)
    for parent, child, label in heap._edges(roots):
        if expected[id(parent)][id(child)] or not is_hidden_dictionary(label):
            found[id(parent)][id(child)] += 1
    assert found == {number: children for number, children in expected.items() if children}


@settings(max_examples=scaled(30, 100, 2000), deadline=None)
@given(graphs())
def test_the_parents_of_an_object_are_its_referrers(graph):
    _, roots, pick = graph
    reached = {id(item): item for item in heap.reach(roots, (object,)) if gc.is_tracked(item)}
    inner = [item for item in reached.values() if not isinstance(item, BOUNDARY)]
    if not inner:
        return
    child = inner[pick % len(inner)]
    referrers = {id(parent) for parent in gc.get_referrers(child)} & {id(item) for item in inner}
    parents = {
        id(parent)
        for parent, other, label in heap._edges(roots)
        if other is child and gc.is_tracked(parent) and not isinstance(parent, types.FrameType)
    }
    if sys.version_info >= (3, 13) and type(child) is dict:
        # The shell of an object's attributes, which the collector leaves out.
        parents = {parent for parent in parents if child in gc.get_referents(reached[parent])}
    if isinstance(child, dict) and any(child is getattr(item, "__globals__", None) for item in inner):
        # The walk leaves the globals of functions out.
        referrers -= {id(item) for item in inner if isinstance(item, types.FunctionType)}
    assert parents == referrers


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


class Both(Slotted):
    def __init__(self, held):
        super().__init__(None)
        self.more = held


def closure(target):
    return lambda: target


def defaults(target):
    def function(held=target):
        return held

    return function


def keyword_defaults(target):
    def function(*, held=target):
        return held

    return function


def noted(target):
    def function():
        pass

    function.note = target
    return function


def generator(target):
    def run(local):
        yield
        return local

    started = run(target)
    next(started)
    return started


def shared_variable(target):
    def run(local):
        yield lambda: local

    started = run(target)
    next(started)
    return started


def exposed(target):
    holder = Holder(target)
    vars(holder)
    return holder


def replaced(target):
    holder = Holder(None)
    holder.__dict__ = {"other": target}
    return holder


NAMED = {
    "list": (lambda t: [0, t], [("index", 1)]),
    "tuple": (lambda t: (0, t), [("index", 1)]),
    "dictionary": (lambda t: {"a": 0, "b": t}, [("key", "b")]),
    "dictionary with numbers": (lambda t: {5: t}, [("key", 5)]),
    "key of a dictionary": (lambda t: {t: 5}, [None]),
    "set": (lambda t: {t}, [None]),
    "attribute": (Holder, [("attribute", "held")]),
    "attribute of an object whose __dict__ was made": (exposed, [("attribute", "held")]),
    "attribute of an object whose __dict__ was replaced": (replaced, [("attribute", "other")]),
    "slot": (Slotted, [("attribute", "held")]),
    "attribute beside a slot": (Both, [("attribute", "more")]),
    "SimpleNamespace": (lambda t: types.SimpleNamespace(a=t), [("attribute", "a")]),
    "closure": (
        closure,
        [("attribute", "__closure__"), ("closure", "target"), ("attribute", "cell_contents")],
    ),
    "default": (defaults, [("attribute", "__defaults__"), ("index", 0)]),
    "keyword default": (keyword_defaults, [("attribute", "__kwdefaults__"), ("key", "held")]),
    "attribute of a function": (noted, [("attribute", "note")]),
    "suspended generator": (generator, [("variable", "local")]),
    "variable that functions share": (
        shared_variable, [("variable", "local"), ("attribute", "cell_contents")],
    ),
    "bound method": (lambda t: Holder(t).method, [("attribute", "__self__"), ("attribute", "held")]),
    "partial": (
        lambda t: functools.partial(print, 0, t), [("attribute", "args"), ("index", 1)]
    ),
    "nested": (
        lambda t: {"a": [Holder((t,))]},
        [("key", "a"), ("index", 0), ("attribute", "held"), ("index", 0)],
    ),
}
# What lies between an owner and its attributes or variables, on some versions.
BETWEEN = [("attribute", "__dict__"), ("attribute", "gi_frame")]


def labels(root, target):
    """The labels along the shortest path, less those of what belongs to its owner."""
    edges = collections.defaultdict(list)
    for parent, child, label in heap._edges([root]):
        edges[id(parent)].append((child, label))
    paths, seen = [(root, [])], {id(root)}
    for item, path in paths:
        if item is target:
            return [label for label in path if label not in BETWEEN]
        for child, label in edges[id(item)]:
            if id(child) not in seen:
                seen.add(id(child))
                paths.append((child, [*path, label]))
    raise AssertionError("no path")


@pytest.mark.parametrize("holder, expected", NAMED.values(), ids=list(NAMED))
def test_a_parent_names_its_child(holder, expected):
    target = Target()
    assert labels(holder(target), target) == expected


def test_what_is_held_twice_has_two_edges():
    target = Target()
    holder = [target, 0, target]
    found = [label for parent, child, label in heap._edges([holder]) if child is target]
    assert sorted(found) == [("index", 0), ("index", 2)]


def test_a_key_and_its_value_may_be_one_object():
    both = (1, 2)
    found = [label for parent, child, label in heap._edges([{both: both}]) if child is both]
    assert sorted(found, key=str) == [("key", both), None]


def test_names_are_found_without_code_of_the_class():
    class Loud(type):
        def __getattribute__(cls, name):
            raise AssertionError("Python code ran")

    class Wanted(metaclass=Loud):
        __slots__ = ("held", "__dict__")

        def __getattribute__(self, name):
            raise AssertionError("Python code ran")

    class Answering:
        @property
        def __dict__(self):
            raise AssertionError("Python code ran")

    target, slotted = Target(), Wanted()
    object.__setattr__(slotted, "held", target)
    object.__setattr__(slotted, "other", [target])
    assert labels(slotted, target) == [("attribute", "held")]
    answering = Answering()
    answering.held = target
    assert labels(answering, target) == [("attribute", "held")]


def test_what_no_traversal_reports_is_named_by_its_getter():
    numpy = pytest.importorskip("numpy")
    target = Target()
    objects = numpy.array([None, target], dtype=object)
    assert labels(objects[1:], target) == [("attribute", "base"), None]
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(3))
    (weight * 2).sum().backward()
    assert labels(weight, weight.grad) == [("attribute", "grad")]
    assert labels([weight.grad[1:]], weight.grad) == [("index", 0), ("attribute", "_base")]
