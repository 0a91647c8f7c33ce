"""Whatever holds an object protects it: one row per kind of holder."""

import asyncio
import collections
import contextvars
import ctypes
import functools
import itertools
import operator
import queue
import threading
import types
import weakref

import pytest
from memsweep import _memsweep as heap


class Target:
    pass


class Other:
    pass


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


class Holder:
    def __init__(self, held):
        self.held = held

    def method(self):
        return self.held


class Listed(list):
    pass


class Mapped(dict):
    pass


Named = collections.namedtuple("Named", "held other")


def _closure(target):
    return lambda: target


def _default(target):
    def function(value=target):
        return value

    return function


def _keyword_default(target):
    def function(*, value=target):
        return value

    return function


def _function_attribute(target):
    def function():
        pass

    function.note = target
    return function


def _generator(target):
    def generator(local):
        yield 1
        return local

    started = generator(target)
    next(started)
    return started


def _coroutine(target):
    async def coroutine(local):
        await asyncio.sleep(1)
        return local

    return coroutine(target)


def _async_generator(target):
    async def generator(local):
        yield local

    return generator(target)


def _cached(target):
    @functools.lru_cache
    def function(key):
        return target if key else None

    function(1)
    return function


def _cached_result(target):
    @functools.lru_cache
    def identity(value):
        return value

    identity(target)
    return identity


def _context(target):
    context = contextvars.Context()
    context.run(contextvars.ContextVar("held").set, target)
    return context


def _thread_local(target):
    local = threading.local()
    local.held = target
    return local


def _queue(target):
    simple = queue.SimpleQueue()
    simple.put(target)
    return simple


def _raised(target):
    error = ValueError(target)
    return error


def _dictionary_touched(target):
    holder = Holder(target)
    holder.__dict__  # noqa: B018 - making the dictionary is the point
    return holder


def _dictionary_replaced(target):
    holder = Other()
    holder.__dict__ = {"held": target}
    return holder


def _structured(target):
    table = weakref.WeakKeyDictionary()
    _structured.keep = Other()
    table[_structured.keep] = target
    return table


def _deep(target):
    nested = target
    for _ in range(2000):
        nested = [nested]
    return nested


HOLDERS = {
    "list": lambda t: [t],
    "tuple": lambda t: (t, 1),
    "dict value": lambda t: {"a": t},
    "dict key": lambda t: {t: 1},
    "set": lambda t: {t},
    "frozenset": lambda t: frozenset([t]),
    "deque": lambda t: collections.deque([t]),
    "namedtuple": lambda t: Named(t, None),
    "list subclass": lambda t: Listed([t]),
    "dict subclass": lambda t: Mapped(a=t),
    "OrderedDict": lambda t: collections.OrderedDict(a=t),
    "defaultdict factory": lambda t: collections.defaultdict(_closure(t)),
    "ChainMap": lambda t: collections.ChainMap({}, {"a": t}),
    "slot": Slotted,
    "attribute": Holder,
    "attribute of an object whose __dict__ was made": _dictionary_touched,
    "attribute of an object whose __dict__ was replaced": _dictionary_replaced,
    "SimpleNamespace": lambda t: types.SimpleNamespace(a=t),
    "closure": _closure,
    "default": _default,
    "keyword default": _keyword_default,
    "function attribute": _function_attribute,
    "partial argument": lambda t: functools.partial(print, t),
    "partial keyword": lambda t: functools.partial(print, end=t),
    "bound method": lambda t: Holder(t).method,
    "bound built-in method": lambda t: [t].append,
    "suspended generator": _generator,
    "coroutine not started": _coroutine,
    "asynchronous generator": _async_generator,
    "lru_cache closure": _cached,
    "lru_cache result": _cached_result,
    "Context": _context,
    "threading.local": _thread_local,
    "SimpleQueue": _queue,
    "mappingproxy": lambda t: types.MappingProxyType({"a": t}),
    "property": lambda t: property(_closure(t)),
    "classmethod": lambda t: classmethod(_closure(t)),
    "cell": lambda t: types.CellType(t),
    "exception": _raised,
    "list iterator": lambda t: iter([t]),
    "chain": lambda t: itertools.chain([t]),
    "zip": lambda t: zip([1], [t]),
    "map": lambda t: map(_closure(t), [1]),
    "slice": lambda t: slice(t),
    "itemgetter": lambda t: operator.itemgetter(t),
    "py_object": lambda t: ctypes.py_object(t),
    "WeakKeyDictionary value": _structured,
    "two thousand lists": _deep,
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=list(HOLDERS))
def test_what_a_holder_holds_is_reached(holder):
    target = Target()
    held = holder(target)
    try:
        found = heap.reach([held], (Target,))
        assert len(found) == 1
        assert found[0] is target
    finally:
        if isinstance(held, types.CoroutineType):
            held.close()
