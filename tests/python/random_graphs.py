"""Random graphs of objects: recipes of plain numbers, and what a walk must find in what they make.

A recipe holds no object, so whoever draws, prints or shrinks one holds nothing of the graph.
"""

import collections
import contextvars
import functools
import gc
import types
import weakref

from hypothesis import strategies as st

BOUNDARY = (type, types.ModuleType, types.FrameType, types.CodeType)
MOST_OBJECTS = 25


class Node:
    def method(self):
        return self


class Slots:
    __slots__ = ("edges",)


class MoreSlots(Slots):
    __slots__ = ("__dict__", "__weakref__", "more")


class Key:
    """Can be hashed whatever it holds."""

    def __init__(self, held):
        self.held = held


def _hashable(children):
    for child in children:
        try:
            hash(child)
        except TypeError:
            child = Key(child)
        yield child


def _weakly(children):
    return [child for child in children if getattr(type(child), "__weakrefoffset__", 0)]


def _list(children):
    return list(children)


def _tuple(children):
    return (None, *children)


def _dict(children):
    return {index: child for index, child in enumerate(children)}


def _dict_keys(children):
    return {child: None for child in _hashable(children)}


def _set(children):
    return set(_hashable(children))


def _frozenset(children):
    # The empty one is a single object that everybody holds.
    return frozenset([Key(None), *_hashable(children)])


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
    vars(node)
    return node


def _replaced(children):
    node = Node()
    node.__dict__ = dict.fromkeys("abcd")
    for name, child in zip("abcd", children, strict=False):
        node.__dict__[name] = child
    return node


def _slots(children):
    node = Slots()
    node.edges = tuple(children)
    return node


def _more_slots(children):
    node = MoreSlots()
    for name, child in zip(("edges", "more", "one", "two"), children, strict=False):
        setattr(node, name, child)
    return node


def _closure(children):
    return lambda: children


def _defaults(children):
    def function(held=tuple(children)):
        return held

    return function


def _partial(children):
    return functools.partial(print, *children)


def _method(children):
    return _node(children).method


def _cached(children):
    stash = list(children)

    @functools.lru_cache
    def take(number):
        return stash.pop()

    for number in range(len(children)):
        take(number)
    # Only its results hold them now.
    return take


def _context(children):
    context = contextvars.Context()
    for child in children:
        context.run(contextvars.ContextVar("held").set, child)
    return context


def _generator(children):
    def generator():
        kept = children
        yield
        return kept

    started = generator()
    next(started)
    return started


def _raised(children):
    """Its arguments are edges. The frames that its traceback keeps are not."""

    def fail(local):
        raise ValueError(*children[:2])

    try:
        fail(children)
    except ValueError as error:
        return error


def _weak(children):
    """No edge but the callback."""

    def callback(_, held=tuple(children[:1])):
        return held

    return [weakref.ref(child, callback) for child in _weakly(children)] or [None]


def _class_attribute(children):
    """A class holds what its instances share, and nobody enters a class."""
    held = list(children)
    made = type("Made", (Node,), {"held": held, "read": property(lambda self: held)})
    return made()


MAKERS = [
    _list,
    _tuple,
    _dict,
    _dict_keys,
    _set,
    _frozenset,
    _deque,
    _node,
    _exposed,
    _replaced,
    _slots,
    _more_slots,
    _closure,
    _defaults,
    _partial,
    _method,
    _cached,
    _context,
    _generator,
    _raised,
    _weak,
    _class_attribute,
]


@st.composite
def recipes(draw):
    """For each object its maker and earlier objects; then edges from lists to any object."""
    size = draw(st.integers(1, MOST_OBJECTS))
    made = []
    for index in range(size):
        maker = draw(st.integers(0, len(MAKERS) - 1))
        picks = draw(st.lists(st.integers(0, index - 1), max_size=4)) if index else []
        made.append((maker, picks))
    lists = [index for index, (maker, _) in enumerate(made) if MAKERS[maker] is _list]
    back = [(index, draw(st.integers(0, size - 1))) for index in lists]
    return made, back


def indices(recipe, most):
    """Positions of a few of its objects."""
    return st.lists(st.integers(0, len(recipe[0]) - 1), max_size=most)


def build(recipe):
    made = []
    for maker, picks in recipe[0]:
        made.append(MAKERS[maker]([made[pick] for pick in picks]))
    for index, other in recipe[1]:
        made[index].append(made[other])
    return made


def naive(roots):
    """What roots reach within the boundary, by number, according to `gc.get_referents`."""
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
