"""What the walk reaches, and where it stops."""

import gc
import sys
import weakref

import pytest
from memsweep import _memsweep as heap


class Target:
    pass


class Other:
    pass


class Holder:
    def __init__(self, held):
        self.held = held


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
    # What the first leaves out, each leaves out.
    globals_of = sys.modules[__name__], vars(sys.modules[__name__]), _reads_global
    assert heap.reach_many([[one] for one in globals_of * 2], (Target,)) == [[]] * 6


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
