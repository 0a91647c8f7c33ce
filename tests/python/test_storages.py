"""Numbers for blocks of memory, against what numpy and torch say of their objects."""

import gc
import json
import mmap
import subprocess
import sys
import threading
import types
import weakref

import pytest
from extent import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from memsweep import _memsweep, hosting

numpy = pytest.importorskip("numpy")
try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="needs torch")


class Loud(numpy.ndarray):
    """Answers for itself, wrongly."""

    base = nbytes = ctypes = dtype = property(lambda self: 1 / 0)


class Pretender:
    __class__ = numpy.ndarray


def memmap(folder):
    return numpy.memmap(folder / "mapped", dtype="f4", mode="w+", shape=(64,))


def read_only():
    array = numpy.arange(64.0)
    array.flags.writeable = False
    return array


def of_a_mapping():
    return numpy.frombuffer(mmap.mmap(-1, 4096), dtype="u1")


ARRAYS = {
    "array": lambda _: [numpy.arange(64.0)],
    "view": lambda _: [(base := numpy.arange(64.0)), base[3:], base[3:][2:], base.reshape(8, 8).T],
    "backwards": lambda _: [(base := numpy.arange(64.0)), base[::-1], base[::-2]],
    "backwards without a base": lambda _: [
        numpy.ndarray((8,), "u1", bytearray(64), offset=56, strides=(-8,))
    ],
    "Fortran order": lambda _: [numpy.ones((4, 8), order="F")],
    "broadcast": lambda _: [(base := numpy.ones(4)), numpy.broadcast_to(base, (1000, 4))],
    "windows": lambda _: [
        (base := numpy.arange(64.0)), numpy.lib.stride_tricks.sliding_window_view(base, 8)
    ],
    "memmap": lambda folder: [(mapped := memmap(folder)), mapped[8:], numpy.asarray(mapped)[8:]],
    "mapping": lambda _: [(array := of_a_mapping()), array[1024:]],
    "read-only": lambda _: [(array := read_only()), array[8:]],
    "bytes": lambda _: [numpy.frombuffer(b"m" * 64, "u1"), numpy.frombuffer(bytearray(64), "u1")],
    "of one bytearray": lambda _: [
        numpy.frombuffer((memory := bytearray(64)), "u1"), numpy.frombuffer(memory, "u1")[8:],
        numpy.frombuffer(memory, "u1", offset=8),
    ],
    "zero elements": lambda _: [numpy.ones(0), numpy.ones((4, 0)), numpy.ones(64)[:0]],
    "elements of no bytes": lambda _: [numpy.zeros(4, "V0"), numpy.zeros(4, "S0")],
    "scalar": lambda _: [numpy.array(1.0), numpy.float64(1.0), numpy.ones(4)[0]],
    "objects": lambda _: [numpy.array([None, [numpy.ones(4)]], dtype=object)],
    "records": lambda _: [
        (table := numpy.zeros(8, [("a", "i4"), ("b", "f8", (2,))])), table["b"], table["a"]
    ],
    "text": lambda _: [numpy.array(["one", "three"])],
    "recarray": lambda _: [numpy.rec.fromrecords([(1, 2.0)], names="a,b")],
    "matrix": lambda _: [numpy.ones((4, 4)).view(numpy.matrix)],
    "masked": lambda _: [numpy.ma.masked_array(numpy.arange(4.0), [0, 1, 0, 0])],
    "subclass": lambda _: [(base := numpy.arange(64.0)), (loud := base.view(Loud)), loud[8:]],
    "subclass of its own": lambda _: [(loud := Loud((8,))), loud[2:]],
    "no array": lambda _: [None, b"m" * 64, bytearray(64), [numpy.ones(4)], Pretender(), numpy.ndarray],
}
if hasattr(numpy, "dtypes") and hasattr(numpy.dtypes, "StringDType"):
    ARRAYS["variable text"] = lambda _: [numpy.array(["m" * 100], numpy.dtypes.StringDType())]


def wrapper(inner):
    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, held):
            return torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)

        def __init__(self, held):
            self.held = held

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            raise AssertionError("Python code ran")

        __torch_dispatch__ = __torch_function__

    return Wrapper(inner)


def subclass(base):
    class Sub(torch.Tensor):
        # A class may lie, and answer for itself.
        __class__ = int
        device = data_ptr = untyped_storage = property(lambda self: 1 / 0)

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            raise AssertionError("Python code ran")

    return torch.Tensor._make_subclass(Sub, base)


def fake():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode:
        return [torch.ones(64), mode.from_tensor(torch.ones(64))]


def with_gradient():
    weight = torch.nn.Parameter(torch.ones(64))
    (weight * 2).sum().backward()
    return [weight, weight.grad, weight.data, weight.detach()]


def resized(size):
    tensor = torch.ones(64)
    tensor.untyped_storage().resize_(size)
    return tensor


def lazy_copy():
    base = torch.ones(64)
    return [base, torch._lazy_clone(base)]


def from_file(folder):
    (folder / "tensor").write_bytes(b"m" * 256)
    return torch.from_file(str(folder / "tensor"), shared=True, size=64)


def loaded(folder):
    torch.save({"a": torch.ones(64), "b": torch.ones(64)}, folder / "saved")
    return list(torch.load(folder / "saved", mmap=True).values())


TENSORS = {
    "tensor": lambda _: [torch.ones(64)],
    "view of a tensor": lambda _: [
        (base := torch.arange(64.0)), base[3:], base[3:][2:], base.view(8, 8).T, base.expand(4, 64)
    ],
    "views whose base is gone": lambda _: [*torch.arange(64.0).split(8)],
    "own tensor on a shared storage": lambda _: [
        (base := torch.ones(64)), torch.empty(0).set_(base.untyped_storage(), 8, (4,))
    ],
    "meta": lambda _: [torch.ones(64, device="meta"), torch.nn.Linear(2, 2, device="meta").weight],
    "zero elements of a tensor": lambda _: [torch.ones(0), torch.ones(64)[:0]],
    "scalar tensor": lambda _: [torch.tensor(1.0)],
    "dtypes": lambda _: [
        torch.ones(64, dtype=dtype) for dtype in (torch.bool, torch.bfloat16, torch.complex64)
    ],
    "gradient": lambda _: with_gradient(),
    "sparse": lambda _: [
        (coo := torch.eye(4).to_sparse()), coo._values(), coo._indices(), torch.eye(4).to_sparse_csr()
    ],
    "quantized": lambda _: [torch.quantize_per_tensor(torch.ones(64), 0.1, 0, torch.qint8)],
    "mkldnn": lambda _: [torch.ones(64, 64).to_mkldnn()] if torch.backends.mkldnn.is_available() else [],
    "jagged": lambda _: [
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    ],
    "nested": lambda _: [torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])],
    "fake": lambda _: fake(),
    "wrapper": lambda _: [(inner := torch.ones(64)), wrapper(inner)],
    "tensor subclass": lambda _: [(base := torch.ones(64)), subclass(base)],
    "resized": lambda _: [resized(0), resized(1024)],
    "lazy copy": lambda _: lazy_copy(),
    "shared": lambda _: [torch.ones(64).share_memory_()],
    "file": lambda folder: [(tensor := from_file(folder)), tensor[8:]],
    "loaded from a mapping": lambda folder: loaded(folder),
    "array of a tensor": lambda _: [(base := torch.ones(64)), base.numpy(), base[8:].numpy()],
    "tensor of an array": lambda _: [(base := numpy.ones(64)), torch.from_numpy(base), torch.from_numpy(base[8:])],
    "tensor of bytes": lambda _: [torch.frombuffer(bytearray(64), dtype=torch.uint8)],
    "no tensor": lambda _: [torch.ones(4).untyped_storage(), torch.float32, torch.nn.Linear(2, 2)],
    "batched": lambda _: batched(),
}


def batched():
    """What a function that torch maps over a tensor gets."""
    kept = []
    torch.func.vmap(lambda item: kept.append(item) or item + 1)(torch.ones(4, 8))
    return kept


# Of their own, that is: the walk reaches the tensors inside.
WITHOUT_MEMORY = ["meta", "mkldnn", "jagged", "fake", "lazy copy", "batched", "no array", "no tensor"]
KINDS = {**ARRAYS, **(TENSORS if torch is not None else {})}


def block_of(value):
    """Device, address and size of the memory behind an object, asked in Python."""
    if issubclass(type(value), numpy.ndarray):
        array = numpy.ndarray
        while issubclass(type(base := array.base.__get__(value)), array):
            value = base
        size = array.nbytes.__get__(value)
        return ("cpu", array.ctypes.__get__(value).data, size) if size else None
    if torch is None or not issubclass(type(value), torch.Tensor):
        return None
    try:
        with torch._C.DisableTorchFunctionSubclass():
            # Asking a copy-on-write tensor for its address would make the copy.
            if getattr(torch._C, "_is_cow_tensor", lambda _: False)(value):
                return None
            storage = torch._C.TensorBase.untyped_storage(value)
            address, size, device = storage.data_ptr(), storage.nbytes(), str(storage.device)
    except (RuntimeError, NotImplementedError):
        return None
    return (device, address, size) if address and size else None


def expected(groups):
    """The numbers and facts of these groups."""
    blocks, numbers = {}, []
    for group in groups:
        found = [block for block in map(block_of, group) if block is not None]
        for device, address, size in found:
            blocks.setdefault((device, address), (len(blocks), size))
        numbers.append(sorted({blocks[device, address][0] for device, address, _ in found}))
    facts = [{"bytes": size, "device": device} for (device, _), (_, size) in blocks.items()]
    return numbers, facts


def answers(groups):
    storages = _memsweep.Storages()
    return [storages.numbers(group) for group in groups], storages.facts()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_numbered_as_its_library_tells_it(kind, tmp_path):
    objects = KINDS[kind](tmp_path)
    groups = [objects, [], *([item] for item in objects), objects[::-1]]
    numbers, facts = expected(groups)
    assert answers(groups) == (numbers, facts)
    assert bool(facts) is (kind not in WITHOUT_MEMORY)
    assert _memsweep.blocks(objects) == [block_of(item) for item in objects]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("storages")
    return [item for make in KINDS.values() for item in make(folder)]


@settings(max_examples=scaled(50, 100, 2000), deadline=None)
@given(drawn=st.lists(st.lists(st.integers(0, 10_000), max_size=8), max_size=8))
def test_any_groups_are_numbered_as_their_libraries_tell_them(everything, drawn):
    groups = [[everything[pick % len(everything)] for pick in picks] for picks in drawn]
    assert answers(groups) == expected(groups)


def test_numbers_count_up_and_are_given_once():
    one, other = numpy.ones(8), numpy.ones(16)
    storages = _memsweep.Storages()
    assert storages.numbers([other]) == [0]
    assert storages.numbers([one, other, one[2:]]) == [0, 1]
    assert storages.facts() == [{"bytes": 128, "device": "cpu"}, {"bytes": 64, "device": "cpu"}]


def test_what_is_no_iterable_is_refused():
    for ask in (_memsweep.Storages().numbers, _memsweep.blocks):
        with pytest.raises(TypeError):
            ask(1)


class Keeper(hosting.TorchHost):
    """Says what must stay, by the numbers of its storages, and where that lies."""

    def __init__(self, array, told):
        self.storages = hosting.Storages()
        self.numbers = self.storages.numbers([array])
        self.told = {"its own": self.storages, "another's": hosting.Storages(), "none": None}[told]

    def parking(self):
        return hosting.Parking(self.told)

    def destroying(self):
        return hosting.Destroying(self.told, [], [], "gone", lambda module: False)

    def inventory(self):
        connected = {"storages": self.numbers, "models": []}
        return {"storages": self.storages.facts(), "connected": connected}


@pytest.mark.parametrize("told", ("its own", "another's", "none"))
def test_what_must_stay_is_not_parked_whatever_the_host_says_of_its_place(told):
    size = 64 << 20
    kept, idle = [numpy.ones(size, "u1")], [numpy.ones(size, "u1")]
    host = Keeper(kept[0], told)
    report = hosting.sweep_with(host, {"level": "park"}, host.inventory()).to_dict()
    (row,) = [row for row in report["rows"] if row["action"]["kind"] == "park"]
    outcome = row["outcome"]
    if outcome["kind"] == "unsupported":
        pytest.skip(outcome["reason"])
    if told == "its own":
        assert size * 0.9 < outcome["bytes"] < size * 1.9
    else:
        # Nothing may move then.
        assert outcome["kind"] == "failed"
        assert "give the step the `Storages` that numbered them" in outcome["error"]
    assert kept[0].all() and idle[0].all()


@needs_torch
@pytest.mark.parametrize("told", ("another's", "none"))
def test_nothing_is_destroyed_where_it_is_not_known_what_must_stay(told):
    kept = [torch.ones(1 << 20)]
    host = Keeper(kept[0], told)
    report = hosting.sweep_with(host, {"level": "destroy"}, host.inventory()).to_dict()
    (row,) = [row for row in report["rows"] if row["action"]["kind"] == "destroy"]
    assert row["outcome"]["kind"] == "failed"
    assert float(kept[0].sum()) == 1 << 20


def test_any_iterable_is_read_once():
    arrays = [numpy.ones(8), numpy.ones(8)]
    assert _memsweep.Storages().numbers(array for array in arrays) == [0, 1]
    assert _memsweep.Storages().numbers({"a": arrays[0]}.values()) == [0]


def test_no_object_is_held():
    class Weak(numpy.ndarray):
        pass

    array = numpy.ones(64).view(Weak)
    storages = _memsweep.Storages()
    counts = sys.getrefcount(array), sys.getrefcount(array.base)
    assert storages.numbers([array]) == [0]
    assert counts == (sys.getrefcount(array), sys.getrefcount(array.base))
    dead = weakref.ref(array)
    del array
    assert dead() is None
    assert set(gc.get_referents(storages)) <= {_memsweep.Storages}


@needs_torch
def test_a_lazy_copy_stays_lazy():
    base, copy = lazy_copy()
    assert _memsweep.Storages().numbers([base, copy]) == []
    assert torch._C._is_cow_tensor(copy)


FAKE = """
import warnings
import torch
from memsweep import _memsweep
from torch._subclasses import FakeTensorMode

with FakeTensorMode():
    fake = torch.ones(64)
warnings.simplefilter("error")
assert _memsweep.Storages().numbers([fake]) == []
# Torch warns once, so that it would have warned here.
try:
    fake.untyped_storage().data_ptr()
except UserWarning:
    raise SystemExit(7)
"""


@needs_torch
def test_a_fake_tensor_is_not_asked_for_its_address():
    # A warning runs Python code.
    done = subprocess.run([sys.executable, "-c", FAKE], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr


CANNOT_COUNT = """
import json
import torch
from memsweep import _memsweep, park, sweep

del torch._C._storage_Use_Count
kept = [torch.ones(1 << 20)]
storages = _memsweep.Storages()
assert storages.numbers(kept) == [0] and storages.facts() == [{"bytes": 4 << 20, "device": "cpu"}]
rows = sweep(level="destroy").to_dict()["rows"] + park(kept).to_dict()["rows"]
assert float(kept[0].sum()) == 1 << 20
print(json.dumps([row["outcome"].get("bytes", 0) for row in rows]))
"""


@needs_torch
def test_a_torch_that_cannot_count_owners_has_numbers_and_nothing_of_it_moves():
    done = subprocess.run([sys.executable, "-c", CANNOT_COUNT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(json.loads(done.stdout))


NO_MEMORY = """
import _testcapi
import torch
from memsweep import _memsweep

tensor, found = torch.ones(64), []
_memsweep.Storages().numbers([tensor])
for after in range(200):
    storages = _memsweep.Storages()
    _testcapi.set_nomemory(after, after + 1)
    try:
        found.append(storages.numbers([tensor]))
    except BaseException:
        # The border has a panic for what it cannot even ask; whoever plans takes it for an error too.
        found.append("error")
    finally:
        _testcapi.remove_mem_hooks()
assert "error" in found and found[-1] == [0]
assert all(one in ("error", [0]) for one in found), found
"""


@needs_torch
def test_without_memory_for_an_answer_a_tensor_does_not_pass_for_one_without_memory():
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_torch
def test_a_default_device_is_not_asked():
    tensor = torch.ones(64)
    with torch.device("meta"):
        assert _memsweep.Storages().numbers([tensor]) == [0]


def test_threads_number_the_same_memory_at_once():
    arrays = [numpy.ones(8) for _ in range(50)]
    storages = _memsweep.Storages()
    found = []

    def number():
        for _ in range(50):
            found.append(storages.numbers(arrays))

    threads = [threading.Thread(target=number) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(50))] * 200


STAND_INS = {
    "nothing": {},
    "a torch without tensors": {"torch": types.SimpleNamespace(_C=types.SimpleNamespace())},
    "a torch whose Tensor is no class": {"torch": types.SimpleNamespace(Tensor=1, _C=1)},
    "a numpy without arrays": {"numpy": types.SimpleNamespace()},
    "a numpy whose ndarray is no class": {"numpy": types.SimpleNamespace(ndarray=1)},
    "no torch": {"torch": None, "torch._C": None},
    "no numpy": {"numpy": None},
}


@pytest.mark.parametrize("modules", STAND_INS.values(), ids=list(STAND_INS))
def test_the_types_are_those_of_what_is_loaded(modules, monkeypatch):
    for name, module in modules.items():
        if module is None:
            monkeypatch.delitem(sys.modules, name, raising=False)
        else:
            monkeypatch.setitem(sys.modules, name, module)
    loaded = [(sys.modules.get(name), kind) for name, kind in (("torch", "Tensor"), ("numpy", "ndarray"))]
    classes = [getattr(module, kind, None) for module, kind in loaded]
    expected = [kind for kind in classes if isinstance(kind, type)]
    if "torch" in modules:
        expected = [kind for kind in expected if kind is numpy.ndarray]
    assert _memsweep.memory_types() == tuple(expected)
    assert _memsweep.Storages().numbers([object()]) == []
