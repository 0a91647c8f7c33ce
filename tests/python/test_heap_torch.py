"""Tensors and arrays: references that the interpreter's own traversal does not report."""

import gc
import sys
import warnings

import pytest
from memsweep import _memsweep as heap

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

KEPT = {}
TYPES = (torch.Tensor, torch.nn.Module)


@pytest.fixture(autouse=True)
def _empty():
    KEPT.clear()
    gc.collect()
    yield
    KEPT.clear()


def among(item, found):
    return any(item is other for other in found)


def answer(*names, frames=None):
    return heap.pinned([KEPT[name] for name in names], frames)


def test_a_small_module_reaches_few_objects():
    linear = torch.nn.Linear(2, 2)
    assert len(heap.reach([linear], (object,))) < 200
    found = heap.reach([linear], TYPES)
    assert {id(item) for item in found} == {id(linear), id(linear.weight), id(linear.bias)}


def test_a_gradient_is_reached():
    weight = torch.nn.Parameter(torch.ones(3))
    (weight * 2).sum().backward()
    assert among(weight.grad, heap.reach([weight], TYPES))


def test_the_base_of_a_view_is_reached_and_a_view_of_a_base_is_not():
    base = torch.ones(4)
    view = base[1:]
    assert among(base, heap.reach([view], TYPES))
    assert not among(view, heap.reach([base], TYPES))


def test_an_array_reaches_the_tensor_it_shares_and_not_the_other_way():
    tensor = torch.ones(4)
    array = tensor.numpy()
    found = heap.reach([array], (torch.Tensor,))
    assert [item.data_ptr() for item in found] == [tensor.data_ptr()]
    assert heap.reach([tensor], (numpy.ndarray,)) == []
    assert among(array, heap.reach([array[1:]], (numpy.ndarray,)))


def test_elements_of_an_object_array_are_reached():
    tensor = torch.ones(1)
    array = numpy.empty((2, 2), dtype=object)
    array[1, 0] = {"a": tensor}
    assert among(tensor, heap.reach([array], TYPES))
    assert among(tensor, heap.reach([array[1]], TYPES))


def test_the_inner_tensor_of_a_wrapper_is_reached():
    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

        def __init__(self, inner):
            self.inner = inner

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            raise AssertionError("Python code ran")

        __torch_dispatch__ = __torch_function__

    inner = torch.ones(2)
    assert among(inner, heap.reach([Wrapper(inner)], TYPES))


def test_no_warning_about_inner_nodes_of_the_graph():
    weight = torch.ones(2, requires_grad=True)
    inner = weight * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heap.reach([inner], TYPES)
        heap.candidates([inner], TYPES)


def test_a_cached_tensor_is_free_and_one_on_the_stack_is_pinned():
    KEPT["weight"] = torch.nn.Linear(2, 2)
    KEPT["item"] = torch.ones(2)
    result = [[KEPT["item"]], answer("item", "weight")]
    assert result[1] == [True, False]
    del result
    assert answer("item", "weight") == [False, False]


def test_a_base_that_only_known_views_hold_is_not_pinned():
    KEPT["base"] = torch.ones(8)
    KEPT["views"] = [KEPT["base"][index:] for index in range(3)]
    assert answer("base") == [False]


def test_a_gradient_that_only_its_parameter_holds_is_not_pinned():
    KEPT["weight"] = torch.nn.Parameter(torch.ones(3))
    (KEPT["weight"] * 2).sum().backward()
    KEPT["gradient"] = KEPT["weight"].grad
    assert answer("weight", "gradient") == [False, False]


def test_a_tensor_saved_for_a_live_backward_is_pinned():
    KEPT["saved"] = torch.ones(3, requires_grad=True)
    KEPT["graph"] = (KEPT["saved"] ** 2).sum()
    if sys.getrefcount(KEPT["saved"]) <= 2:
        pytest.skip("this torch keeps no Python reference for C++ owners")
    assert answer("saved") == [True]


def test_a_result_that_autograd_keeps_is_pinned_though_no_reference_shows_it():
    # `exp` keeps its result for the backward pass: C++ holds the memory, and no Python object.
    KEPT["result"] = torch.ones(3, requires_grad=True).exp()
    KEPT["graph"] = KEPT["result"].sum()
    KEPT["detached"] = KEPT["result"].detach()
    KEPT["untracked"] = torch.ones(3).exp()
    assert answer("result", "detached", "untracked") == [True, True, False]
    found = heap.candidates([], TYPES).hits
    assert not among(KEPT["result"], found)
    assert among(KEPT["untracked"], found)


def test_what_shares_memory_with_a_connected_tensor_is_protected():
    whole = torch.ones(8)
    KEPT["part"], KEPT["other"] = whole[:4], whole[4:]
    KEPT["free"] = torch.ones(3)
    del whole
    found = heap.candidates([KEPT["part"]], TYPES)
    assert not among(KEPT["other"], found.hits)
    assert among(KEPT["free"], found.hits)


def test_what_shares_memory_with_a_tensor_in_use_is_in_use():
    KEPT["whole"] = torch.ones(8)
    part = KEPT["whole"].detach()[2:]
    KEPT["sibling"] = KEPT["whole"][:2]
    assert answer("whole", "sibling") == [True, True]
    assert part is not None


def test_memory_whose_storage_is_lent_is_in_use():
    KEPT["whole"] = torch.ones(8)
    KEPT["sibling"] = KEPT["whole"][:2]
    assert answer("whole", "sibling") == [False, False]
    lent = (KEPT["whole"].untyped_storage(),)
    assert answer("whole", "sibling") == [True, True]
    del lent
    assert answer("whole", "sibling") == [False, False]


def test_no_python_code_runs_under_a_mode():
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            Mode.calls += 1
            return function(*args, **(kwargs or {}))

    KEPT["view"] = torch.ones(8)[1:]
    with Mode():
        calls = Mode.calls
        heap.reach([KEPT["view"]], TYPES)
        heap.candidates([], TYPES)
        heap.pinned([KEPT["view"]])
        assert Mode.calls == calls


def test_tensors_that_share_memory_are_free_together():
    KEPT["all"] = torch.ones(8)
    KEPT["view"] = KEPT["all"][2:]
    KEPT["array"] = KEPT["all"].numpy()
    KEPT["storage"] = KEPT["all"].untyped_storage()
    KEPT["again"] = torch.empty(0).set_(KEPT["storage"])
    assert answer("all", "view", "again") == [False, False, False]


def test_a_model_in_a_frame_given_is_free():
    model = KEPT["model"] = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    assert answer("model") == [True]
    assert answer("model", frames=[sys._getframe()]) == [False]
    assert model is not None


def test_candidates_sorts_tensors():
    KEPT["connected"] = torch.nn.Linear(2, 2)
    KEPT["free"] = torch.ones(7)
    used = KEPT["used"] = torch.ones(7)
    found = heap.candidates([KEPT["connected"]], TYPES)
    assert among(KEPT["free"], found.hits)
    assert not among(used, found.hits)
    assert not among(KEPT["connected"].weight, found.hits)
    assert found.protected == 3


def test_tensors_die_after_the_call():
    import weakref

    base = torch.ones(4)
    view = base[1:]
    alive = weakref.ref(base), weakref.ref(view)
    heap.candidates([view], TYPES)
    heap.reach([view], TYPES)
    heap.pinned([view])
    del base, view
    gc.collect()
    assert [ref() for ref in alive] == [None, None]
