"""Toy nodes for the in-process executor.

Every tensor they make sits on a numpy array that is watched by a weak reference:
the array dies exactly when the tensor's storage is freed, whoever shared it.
"""

import collections
import functools
import hashlib
import math
import weakref

import numpy
import torch
from comfy_execution.graph_utils import ExecutionBlocker, GraphBuilder, is_link


class AnyType(str):
    """ComfyUI's wildcard: compares equal to every type name."""

    def __ne__(self, _other: object) -> bool:
        return False


ANY = AnyType("*")

ELEMENTS = 512 * 1024  # 2 MB of float32
BYTES = ELEMENTS * 4
# numpy's memory cannot be parked while a tensor shows it; torch's own can.
OWNED_BY_TORCH = False

RUNS: collections.Counter = collections.Counter()
STORAGES: dict[str, weakref.ref] = {}
SEEN_ALIVE: dict[str, set[str]] = {}
REMEMBERED: dict[str, list] = {}
ARMED: dict[str, object] = {}


def forget() -> None:
    """Before each test: forgets everything about the last one."""
    for table in (RUNS, STORAGES, SEEN_ALIVE, REMEMBERED, ARMED):
        table.clear()


def watched(label: str, array: numpy.ndarray) -> torch.Tensor:
    RUNS[label] += 1
    if OWNED_BY_TORCH:
        tensor = torch.from_numpy(array).clone()
        STORAGES[label] = weakref.ref(tensor)
        return tensor
    STORAGES[label] = weakref.ref(array)
    return torch.from_numpy(array)


def alive() -> set[str]:
    """Labels whose storage is still in memory."""
    return {label for label, reference in STORAGES.items() if reference() is not None}


def digest(value) -> str:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(repr(tuple(value.shape)).encode() + value.numpy().tobytes()).hexdigest()[:16]
    return repr(value)


def toy(outputs=(ANY,), output=False, optional=(), lazy=(), raw=(), many_in=False, many_out=()):
    """Makes a V1 node class from a function; its parameters are the inputs."""

    def build(function):
        names = function.__code__.co_varnames[: function.__code__.co_argcount]

        def info(name):
            return (ANY, {"lazy": name in lazy, "rawLink": name in raw})

        class Toy:
            CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "toy", "run", tuple(outputs), output
            INPUT_IS_LIST = many_in

            @classmethod
            def INPUT_TYPES(cls):
                return {
                    "required": {n: info(n) for n in names if n not in optional},
                    "optional": {n: info(n) for n in names if n in optional},
                }

            run = staticmethod(function)

        if many_out:
            Toy.OUTPUT_IS_LIST = tuple(many_out)
        Toy.__name__ = function.__name__
        return Toy

    return build


@toy()
def ToySource(label, seed):
    return (watched(label, numpy.random.default_rng(seed).random(ELEMENTS, dtype=numpy.float32)),)


@toy()
def ToyTrained(label):
    """An output that autograd recorded, as a node that trains returns it."""
    RUNS[label] += 1
    with torch.inference_mode(False), torch.enable_grad():
        return (torch.ones(ELEMENTS, requires_grad=True) * 2,)


@toy(optional=("after",))
def ToyStep(label, value, after=None):
    return (watched(label, value.numpy() * numpy.float32(1.25) + numpy.float32(0.5)),)


@toy()
def ToyMix(label, a, b):
    return (watched(label, a.numpy() * numpy.float32(0.5) + b.numpy()),)


@toy(outputs=(ANY, ANY))
def ToyPair(label, value):
    return (watched(f"{label}.0", value.numpy() + 1), watched(f"{label}.1", value.numpy() + 2))


@toy()
def ToyView(label, value):
    RUNS[label] += 1
    return (value.view_as(value),)


@toy(outputs=(ANY, ANY, ANY, ANY))
def ToyFour(a, b, c, d):
    return (a, b, c, d)


@toy(many_out=(True,))
def ToyList(label, value):
    return ([watched(f"{label}.{i}", value.numpy() + i) for i in range(3)],)


@toy(many_out=(True,))
def ToyBlockedList(label, value):
    """Three items; ComfyUI lets nothing run on the middle one."""
    return ([watched(f"{label}.0", value.numpy() + 1), ExecutionBlocker(None), watched(f"{label}.2", value.numpy() + 2)],)


@toy(many_out=(True,))
def ToyEmptyList():
    return ([],)


@toy()
def ToyValue(kind):
    return ({"none": None, "list": [], "number": 7, "text": "a text"}[kind],)


@toy(output=True)
def ToySave(value):
    return {"ui": {"saved": [digest(value)]}}


@toy(many_in=True, output=True)
def ToySaveList(values):
    return {"ui": {"saved": [digest(value) for value in values]}}


@toy(output=True, optional=("also",))
def ToyCheck(name, value, also=None):
    """Notes which storages are alive at this place of the workflow."""
    SEEN_ALIVE[name[0] if isinstance(name, list) else name] = alive()
    return {"ui": {}}


@toy(many_in=True, many_out=(True,))
def ToyRemember(name, values):
    REMEMBERED[name[0]] = [id(value) for value in values]
    return (values,)


@toy(many_in=True, output=True)
def ToySame(name, values):
    """Whether the very objects that ToyRemember saw arrive here."""
    return {"ui": {"saved": [REMEMBERED[name[0]] == [id(value) for value in values]]}}


class ToyChoose:
    """Takes `a` or `b`, lazily."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        lazy = (ANY, {"lazy": True})
        return {"required": {"which": (ANY, {}), "a": lazy, "b": lazy, "after": (ANY, {})}}

    def check_lazy_status(self, which, a=None, b=None, after=None):
        return [which]

    def run(self, which, a=None, b=None, after=None):
        return (a if which == "a" else b,)


class ToyAsync:
    """Waits while other nodes run, and then reads its input."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"label": (ANY, {}), "value": (ANY, {})}}

    async def run(self, label, value):
        import asyncio

        await asyncio.sleep(0.05)
        return (watched(label, value.numpy() * numpy.float32(3)),)


@toy(outputs=(ANY, ANY), optional=("level",))
def ToyExpand(label, value, level="evict"):
    """Becomes step, sweep, step; gives the first step's and the last step's result."""
    RUNS[label] += 1
    graph = GraphBuilder()
    first = graph.node("ToyStep", label=f"{label}/first", value=value)
    middle = graph.node("ToyStep", label=f"{label}/middle", value=first.out(0))
    swept = graph.node("MemSweepFree", anything=middle.out(0), level=level)
    last = graph.node("ToyStep", label=f"{label}/last", value=swept.out(0))
    return {"result": (first.out(0), last.out(0)), "expand": graph.finalize()}


@toy(raw=("link",))
def ToyRaw(label, link, after):
    """Gets the link itself, and builds a node on it."""
    assert is_link(link), f"expected a link, got {type(link)}"
    graph = GraphBuilder()
    return {"result": (graph.node("ToyStep", label=label, value=link).out(0),), "expand": graph.finalize()}


class Refuser:
    """An object that answers no question, except the three that ComfyUI itself asks of every output."""

    def __getattribute__(self, name):
        if name == "__class__":
            return Refuser
        if name in ("patcher", "get_models", "is_dynamic"):
            raise AttributeError(name)
        raise RuntimeError(f"no attribute {name} for you")


@toy()
def ToyRefuser():
    return (Refuser(),)


@toy()
def ToyDeep(depth, value):
    """`value` under a million lists. ComfyUI itself recurses into bare lists, so an object holds them."""
    nested: list = [value]
    for _ in range(depth):
        nested = [nested]
    return (Keyed(nested),)


@toy()
def ToyGarbage(value, megabytes):
    """Leaves a cycle with memory in it, which only the collector can find."""
    cycle: list = [numpy.ones(megabytes * 2**17)]
    cycle.append(cycle)
    return (value,)


@toy()
def ToyArm(value, name):
    """Runs what the test put into ARMED under this name."""
    ARMED[name]()
    return (value,)


class Slotted:
    __slots__ = ("value",)


class Keyed:
    """Hashable holder, so that it can be a key of a dict or a member of a set."""

    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value


def hold(kind: str, value):
    """`value` inside one of the things that a shallow walk does not look into."""
    if kind == "plain":
        return value
    if kind == "closure":
        return lambda: value
    if kind == "default argument":
        def function(held=value):
            return held

        return function
    if kind == "partial":
        return functools.partial(print, value)
    if kind == "slots":
        slotted = Slotted()
        slotted.value = value
        return slotted
    if kind == "set":
        return {Keyed(value)}
    if kind == "deque":
        return collections.deque([value])
    if kind == "dict key":
        return {Keyed(value): 1}
    if kind == "bound method":
        return Keyed(value).method
    if kind == "nested":
        return [({"a": [value]},)]
    raise ValueError(kind)


TAKE = {
    "plain": lambda held: held,
    "closure": lambda held: held(),
    "default argument": lambda held: held(),
    "partial": lambda held: held.args[0],
    "slots": lambda held: held.value,
    "set": lambda held: next(iter(held)).value,
    "deque": lambda held: held[0],
    "dict key": lambda held: next(iter(held)).value,
    "bound method": lambda held: held(),
    "nested": lambda held: held[0][0]["a"][0],
}


@toy()
def ToyHold(kind, value):
    return (hold(kind, value),)


@toy()
def ToyTake(kind, value):
    """What ToyHold had put away."""
    return (TAKE[kind](value),)


class ToyNetwork(torch.nn.Module):
    def __init__(self, label):
        super().__init__()
        self.layer = torch.nn.Linear(256, 256)
        self.label = label


@toy()
def ToyModel(label):
    """A model under ComfyUI's management, loaded."""
    import comfy.model_management
    import comfy.model_patcher

    RUNS[label] += 1
    network = ToyNetwork(label)
    STORAGES[label] = weakref.ref(network)
    device = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(network, load_device=device, offload_device=device)
    comfy.model_management.load_models_gpu([patcher])
    return (patcher,)


@toy(outputs=(ANY, ANY))
def ToyTwoModels(first, second):
    """Two models in one cache entry, as a checkpoint loader gives."""
    return (ToyModel.run(first)[0], ToyModel.run(second)[0])


@toy(output=True, optional=("also",))
def ToyLoaded(value, also=None):
    """Which toy models ComfyUI has on its list at this place of the workflow."""
    return {"ui": {"loaded": sorted(loaded())}}


def loaded() -> list[str]:
    import comfy.model_management as management

    models = [entry.model for entry in list(management.current_loaded_models)]
    return [model.model.label for model in models if model is not None and isinstance(model.model, ToyNetwork)]


@toy()
def ToyStatus(value, name):
    """Reads /proc at this place of the workflow, without MemSweep's help."""
    from harness.comfy_server import status_bytes

    ARMED[name] = {field: status_bytes(field) for field in ("VmRSS", "RssAnon", "RssFile")}
    return (value,)


FRESH = numpy.random.default_rng(0)


@toy()
def ToyUnseeded(label):
    """A different result each time it runs."""
    return (watched(label, FRESH.random(ELEMENTS, dtype=numpy.float32)),)


ITS_OWN_NAN = float("nan")
ITS_OWN_TUPLE = (float("nan"),)


@toy()
def ToyChanged(label, kind):
    """Says of itself that it has changed, in one of the ways that packs do."""
    return (watched(label, FRESH.random(ELEMENTS, dtype=numpy.float32)),)


def _is_changed(kind, **_):
    if kind == "raises":
        raise RuntimeError("asked too early")
    return {
        "a new one": float("nan"), "math's": math.nan, "numpy's": numpy.nan, "its own": ITS_OWN_NAN,
        "in its own tuple": ITS_OWN_TUPLE,
        "numpy's kind": numpy.float64("nan"), "the same": 1.5,
    }[kind]


ToyChanged.IS_CHANGED = staticmethod(_is_changed)


class ToyApi(ToyUnseeded):
    API_NODE = True


class ToyLoopEnd:
    """As in packs for loops: clones the loop's body, whose links reach outside the loop."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "toy", "run", (ANY,), False

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": (ANY,), "body": ("STRING",), "times": ("INT",)},
            "hidden": {"dynprompt": "DYNPROMPT"},
        }

    def run(self, value, body, times, dynprompt):
        if times <= 0:
            return (value,)
        graph = GraphBuilder()
        original = dynprompt.get_node(body)
        clone = graph.node(original["class_type"], "body", **{**original["inputs"], "a": value})
        end = graph.node("ToyLoopEnd", "end", value=clone.out(0), body=body, times=times - 1)
        return {"result": (end.out(0),), "expand": graph.finalize()}


TOYS = {
    name: thing for name, thing in list(globals().items())
    if name.startswith("Toy") and isinstance(thing, type) and not issubclass(thing, torch.nn.Module)
}
