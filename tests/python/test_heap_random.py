"""Random graphs: the walk against a naive closure written in Python."""

import collections
import functools
import gc
import types

from hypothesis import given, settings
from hypothesis import strategies as st
from memsweep import _memsweep as heap

BOUNDARY = (type, types.ModuleType, types.FrameType, types.CodeType)


class Node:
    pass


class Slots:
    __slots__ = ("edges",)


def _list(children):
    return list(children)


def _tuple(children):
    return (None, *children)


def _dict(children):
    return {index: child for index, child in enumerate(children)}


def _deque(children):
    return collections.deque(children)


def _node(children):
    node = Node()
    node.edges = list(children)
    return node


def _exposed(children):
    node = Node()
    for index, child in enumerate(children):
        setattr(node, f"edge{index}", child)
    node.exposed = vars(node)
    del node.exposed
    return node


def _slots(children):
    node = Slots()
    node.edges = tuple(children)
    return node


def _closure(children):
    return lambda: children


def _partial(children):
    return functools.partial(print, *children)


def _generator(children):
    def generator():
        kept = children
        yield
        return kept

    started = generator()
    next(started)
    return started


MAKERS = [_list, _tuple, _dict, _deque, _node, _exposed, _slots, _closure, _partial, _generator]


@st.composite
def graphs(draw):
    """Objects in creation order; edges to earlier ones, and through lists also to later ones."""
    made = []
    for _ in range(draw(st.integers(1, 25))):
        maker = draw(st.sampled_from(MAKERS))
        picks = draw(st.lists(st.integers(0, len(made) - 1), max_size=4)) if made else []
        made.append(maker([made[pick] for pick in picks]))
    lists = [item for item in made if type(item) is list]
    for item in lists:
        item.append(made[draw(st.integers(0, len(made) - 1))])
    roots = draw(st.lists(st.integers(0, len(made) - 1), max_size=3))
    return made, [made[root] for root in roots]


def naive(roots):
    found, stack = {}, list(roots)
    while stack:
        item = stack.pop()
        if id(item) in found:
            continue
        found[id(item)] = item
        if isinstance(item, BOUNDARY):
            continue
        if isinstance(item, types.FunctionType):
            stack += [item.__closure__, item.__defaults__, item.__kwdefaults__, item.__dict__]
        elif isinstance(item, types.GeneratorType):
            stack += [*gc.get_referents(item), *item.gi_frame.f_locals.values()]
        else:
            stack += gc.get_referents(item)
    return found


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_it_finds_what_the_naive_closure_finds(graph):
    made, roots = graph
    wanted = (list, tuple, dict, collections.deque, Node, Slots, types.FunctionType)
    wanted += (functools.partial, types.GeneratorType)
    expected = naive(roots)
    known = {id(item) for item in made}
    walked = {id(item) for item in heap.reach(roots, wanted)}
    assert walked & known == expected.keys() & known


@settings(max_examples=60, deadline=None)
@given(st.lists(graphs(), max_size=4))
def test_groups_do_not_leak_into_each_other(drawn):
    wanted = (object,)
    together = heap.reach_many([roots for _, roots in drawn], wanted)
    for (_, roots), found in zip(drawn, together, strict=True):
        alone = heap.reach(roots, wanted)
        assert [id(item) for item in found] == [id(item) for item in alone]
