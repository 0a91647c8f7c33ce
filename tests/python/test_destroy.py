"""Level `destroy`: memory is taken, and using what lost it is one clear error."""

import copy
import gc
import sys
import threading
import time
import types
import weakref

import extent
import memsweep
import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

MIB = 2**20
FOREIGN = types.ModuleType("memsweep_test_foreign")
FOREIGN.__file__ = "/home/user/custom_nodes/foreign.py"


@pytest.fixture
def foreign():
    sys.modules[FOREIGN.__name__] = FOREIGN
    kept = dict(vars(FOREIGN))
    yield FOREIGN
    vars(FOREIGN).clear()
    vars(FOREIGN).update(kept)
    del sys.modules[FOREIGN.__name__]


def destroy(protect=()):
    report = memsweep.sweep(protect=protect, level="destroy", parking={"off": True})
    rows = report.to_dict()["rows"]
    return next(row["outcome"] for row in rows if row["action"]["kind"] == "destroy")


def is_destroyed(tensor):
    return type(tensor).__name__ == "Destroyed"


def test_its_data_is_nobody_elses(foreign):
    """`x.data = destroyed` asks neither class: torch itself must refuse, or `x` computes with no memory."""
    foreign.tensor = torch.ones(1024, 1024)
    destroy()
    assert is_destroyed(foreign.tensor)
    other, layer = torch.ones(1024, 1024), torch.nn.Linear(1024, 1024)
    for into in (other, layer.weight):
        with pytest.raises(RuntimeError, match="incompatible tensor type"):
            into.data = foreign.tensor
    assert other.sum() == 1024 * 1024
    # It says where it was.
    assert foreign.tensor.device == torch.device("cpu") and foreign.tensor.get_device() == -1
    assert foreign.tensor.is_cpu and not foreign.tensor.is_meta and not foreign.tensor.is_cuda


@pytest.mark.parametrize("write", [False, True])
def test_a_thread_that_computes_is_never_hit(foreign, write):
    """What another thread computes with stays, and what was taken is nobody's by then."""
    count, wrong, stop = 4 * MIB, [], threading.Event()

    def compute():
        while not stop.is_set():
            try:
                if write:
                    # In place, and it takes long.
                    foreign.tensor.lgamma_()
                elif foreign.tensor.sum(dtype=torch.float64) != count:
                    wrong.append("another sum")
            except RuntimeError:
                # A `DestroyedError`; or torch's own, in the moment before the class is set.
                pass
            time.sleep(0.003)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in range(extent.scaled(2, 5, 200)):
            foreign.tensor = torch.ones(count)
            thread = threading.Thread(target=compute)
            thread.start()
            time.sleep(0.003 * (number % 7))
            destroy()
            # Of the size that was taken: a result that comes late would be in one of them.
            fresh = [torch.zeros(count) for _ in range(2)]
            time.sleep(0.05)
            stop.set()
            thread.join()
            stop.clear()
            wrong += ["a foreign byte" for tensor in fresh if tensor.any()]
    finally:
        stop.set()
        torch.set_num_threads(threads)
    assert not wrong


USES = {
    "linear": lambda w: torch.nn.functional.linear(torch.ones(3, 1024), w),
    "matmul": lambda w: torch.ones(3, 1024) @ w,
    "sum": lambda w: w.sum(),
    "clone": lambda w: w.clone(),
    "detach": lambda w: w.detach(),
    "data": lambda w: w.data,
    "index": lambda w: w[0],
    "item": lambda w: w[0, 0].item(),
    "tolist": lambda w: w.tolist(),
    "numpy": lambda w: w.numpy(),
    "asarray": lambda w: numpy.asarray(w),
    "to": lambda w: w.to(torch.float16),
    "cpu": lambda w: w.cpu(),
    "in place": lambda w: w.add_(1),
    "stack": lambda w: torch.stack([w, w]),
    "compare": lambda w: w == 1,
    "copy from": lambda w: torch.ones(1024, 1024).copy_(w),
    "empty_like": lambda w: torch.empty_like(w),
    "storage": lambda w: w.untyped_storage(),
    "data_ptr": lambda w: w.data_ptr(),
    "deepcopy": lambda w: copy.deepcopy(w),
    "save": lambda w: torch.save(w, "/dev/null"),
    "dlpack": lambda w: w.__dlpack__(),
}


@pytest.fixture(scope="module")
def destroyed():
    sys.modules[FOREIGN.__name__] = FOREIGN
    FOREIGN.model = torch.nn.Linear(1024, 1024)
    destroy()
    return vars(FOREIGN).pop("model")


@pytest.mark.parametrize("use", USES)
def test_every_use_is_one_clear_error(destroyed, use):
    weight = destroyed.weight
    assert is_destroyed(weight)
    with pytest.raises(memsweep.DestroyedError, match="memsweep.sweep.*protect"):
        USES[use](weight)
    # Below torch's overrides for subclasses too.
    if use in ("sum", "clone", "matmul"):
        with torch._C.DisableTorchFunctionSubclass(), pytest.raises(memsweep.DestroyedError):
            USES[use](weight)


def test_the_memory_is_gone_and_the_object_is_the_same(foreign):
    foreign.model = torch.nn.Sequential(torch.nn.Linear(2048, 2048), torch.nn.Linear(2048, 2048))
    weight = foreign.model[0].weight
    view, identity = weight.detach()[5:], id(weight)
    del weight
    foreign.view = view
    del view
    report = memsweep.sweep(level="destroy", parking={"off": True})
    assert report.freed > 25 * MIB
    weight = foreign.model[0].weight
    assert id(weight) == identity
    assert (weight.shape, weight.dtype, weight.device.type) == ((2048, 2048), torch.float32, "cpu")
    assert "destroyed" in repr(weight)
    with pytest.raises(memsweep.DestroyedError):
        foreign.view.sum()
    with pytest.raises(memsweep.DestroyedError):
        foreign.model(torch.ones(1, 2048))


def test_owners_are_named(foreign):
    foreign.CACHE = {"model": torch.ones(MIB)}

    class Loader:
        kept = torch.ones(2 * MIB)

    Loader.__module__ = foreign.__name__
    foreign.Loader = Loader
    del Loader
    owners = {row["name"]: row["bytes"] for row in destroy()["owners"]}
    assert owners["global CACHE of memsweep_test_foreign"] == 4 * MIB
    assert owners["class Loader of memsweep_test_foreign"] == 8 * MIB


def test_what_is_in_use_or_shown_elsewhere_stays(foreign):
    foreign.protected = torch.ones(MIB)
    foreign.shown = torch.ones(MIB)
    foreign.array = foreign.shown.numpy()
    foreign.watched = torch.ones(MIB)
    foreign.watcher = weakref.ref(foreign.watched)
    foreign.small = torch.ones(10)
    foreign.graph = torch.nn.Parameter(torch.ones(MIB))
    foreign.loss = (foreign.graph * 2).exp().sum()
    local = foreign.local = torch.ones(MIB)
    outcome = destroy(protect=[foreign.protected])
    for name in ("protected", "shown", "watched", "small", "local", "graph"):
        assert not is_destroyed(getattr(foreign, name)), name
    assert local.sum() == foreign.array.sum() == MIB
    foreign.loss.backward()
    reasons = {row["reason"] for row in outcome["refused"]}
    assert {"numpy arrays hold it", "weak references to it exist"} <= reasons


def test_libraries_keep_their_constants(foreign):
    torch.memsweep_test_constant = torch.ones(MIB)
    torch.nn.Linear.memsweep_test_constant = torch.ones(MIB)
    try:
        destroy()
        assert torch.memsweep_test_constant.sum() == MIB
        assert torch.nn.Linear.memsweep_test_constant.sum() == MIB
    finally:
        del torch.memsweep_test_constant, torch.nn.Linear.memsweep_test_constant


def test_tensors_that_share_memory_stay_or_go_together(foreign):
    foreign.base = torch.ones(MIB)
    foreign.parts = [foreign.base[n:] for n in range(3)]
    foreign.watcher = weakref.ref(foreign.parts[1])
    destroy()
    assert not any(map(is_destroyed, [foreign.base, *foreign.parts]))
    foreign.watcher = None
    gc.collect()
    destroy()
    assert all(map(is_destroyed, [foreign.base, *foreign.parts]))


def test_a_dry_run_destroys_nothing(foreign):
    foreign.tensor = torch.ones(MIB)
    memsweep.sweep(level="destroy", dry_run=True)
    assert foreign.tensor.sum() == MIB
