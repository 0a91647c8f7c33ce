"""What the walk reaches, and where it stops."""

import asyncio
import collections
import contextvars
import ctypes
import functools
import gc
import itertools
import operator
import queue
import sys
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


def test_roots_are_included_and_each_object_comes_once():
    target = Target()
    found = heap.reach([target, [target], (target, [target])], (Target,))
    assert [id(item) for item in found] == [id(target)]


def test_subclasses_count_and_look_alikes_do_not():
    class Sub(Target):
        pass

    class Pretender:
        __class__ = Target

    sub = Sub()
    assert heap.reach([[sub, Pretender(), Other()]], (Target,)) == [sub]
    assert heap.reach([[sub, Other()]], (Sub, str)) == [sub]
    assert heap.reach([[sub]], ()) == []


def test_a_metaclass_is_not_asked():
    class Loud(type):
        def __instancecheck__(cls, other):
            raise AssertionError("Python code ran")

        def __subclasscheck__(cls, other):
            raise AssertionError("Python code ran")

    class Wanted(metaclass=Loud):
        def __getattribute__(self, name):
            raise AssertionError("Python code ran")

    wanted = Wanted()
    assert len(heap.reach([[wanted]], (Wanted,))) == 1


def test_a_weak_reference_holds_nothing():
    target = Target()
    table = weakref.WeakValueDictionary(a=target)
    assert heap.reach([weakref.ref(target), weakref.proxy(target), table], (Target,)) == []


class Registry:
    shared = []


GLOBAL = Target()


def _reads_global():
    return GLOBAL


def test_classes_modules_and_globals_are_not_entered():
    Registry.shared.append(Target())
    try:
        assert heap.reach([Registry, Registry()], (Target,)) == []
        assert heap.reach([sys.modules[__name__], _reads_global], (Target,)) == []
        assert heap.reach([vars(sys.modules[__name__])], (Target,)) == []
    finally:
        Registry.shared.clear()


def test_globals_that_belong_to_no_module_are_not_entered():
    space = {"held": Target()}
    exec("def function():\n    return held", space)
    assert heap.reach([space["function"]], (Target,)) == []
    assert heap.reach([space], (Target,)) == [space["held"]]


def test_frames_and_code_are_not_entered():
    target = Target()
    frame = sys._getframe()
    assert heap.reach([frame, frame.f_code], (Target,)) == []
    assert target is not None


def test_a_small_object_reaches_few():
    found = heap.reach([Holder(Other())], (object,))
    assert len(found) < 20, [type(item) for item in found]


def test_groups_are_walked_each_on_its_own():
    shared, first, second = Target(), Target(), Target()
    groups = heap.reach_many([[[shared, first]], [], [(second, shared)], [shared]], (Target,))
    assert [set(group) for group in groups] == [{shared, first}, set(), {second, shared}, {shared}]
    assert heap.reach_many([], (Target,)) == []
    many = [[[Target(), shared]] for _ in range(200)]
    assert all(len(group) == 2 for group in heap.reach_many(many, (Target,)))


def test_a_list_nested_a_million_deep():
    target = nested = Target()
    for _ in range(1_000_000):
        nested = [nested]
    assert heap.reach([nested], (Target,)) == [target]
    assert len(heap.reach([nested], (list,))) == 1_000_000
    # Unwound by hand: older interpreters recurse when such a list is dropped at once.
    while isinstance(nested, list):
        nested = nested[0]


def test_wrong_arguments_are_type_errors():
    for call in (
        lambda: heap.reach((), (int,)),
        lambda: heap.reach([], [int]),
        lambda: heap.reach([], (1,)),
        lambda: heap.reach_many([()], (int,)),
        lambda: heap.pinned(()),
        lambda: heap.candidates([], (1,)),
    ):
        with pytest.raises(TypeError):
            call()


def test_the_self_test_agrees_with_the_interpreter():
    found = heap.self_test()
    assert found["objects"] >= 1000
    assert found["inline_attributes"] is (sys.version_info >= (3, 13))
    assert heap.self_test() == found


def test_reaching_object_finds_leaves_and_containers():
    data = {"text": ["a" * 50, b"bytes", 12345678901234567890, 1.5]}
    found = {id(item) for item in heap.reach([data], (object,))}
    assert id(data) in found
    assert id(data["text"]) in found
    assert all(id(item) in found for item in data["text"])


def test_the_collector_agrees_on_what_a_container_holds():
    data = [Holder([Target() for _ in range(50)]) for _ in range(20)]
    assert gc.is_tracked(data)
    assert len(heap.reach([data], (Target,))) == 1000
