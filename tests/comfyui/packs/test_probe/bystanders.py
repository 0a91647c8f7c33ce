"""Thirteen innocent ways in which another pack holds state, and the check that none was touched.

The expected bytes are kept as `bytes` objects, which no sweep can reach into.
"""

import functools
import threading

import numpy
import torch

SIZE = 4096


def filled(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape or (SIZE,), generator=torch.Generator().manual_seed(seed))


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def closure_over(tensor):
    return lambda: tensor


@functools.lru_cache(maxsize=None)
def remembered() -> torch.Tensor:
    return filled(9)


def graph_of(leaf: torch.Tensor) -> torch.Tensor:
    # exp keeps its result for the backward pass: a tensor only autograd holds.
    return leaf.exp().sum()


CONSTANT = filled(1)
TABLE = {"nested": {"value": filled(2)}}
MODULE = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
PARAMETER = torch.nn.Parameter(filled(3))
VIEW = filled(4, 64, 64)[8:32, ::2]
CLOSURE = closure_over(filled(5))
PARTIAL = functools.partial(torch.add, filled(6), 1.0)
SLOTTED = Slotted(filled(7))
LEAF = filled(10).requires_grad_()
GRAPH = graph_of(LEAF)
SHARING = filled(11).numpy()
OWNING = numpy.arange(SIZE, dtype=numpy.float64)


class Holder(threading.Thread):
    """Holds a tensor in a local variable only, and answers for it on request."""

    def __init__(self):
        super().__init__(daemon=True, name="test-probe-holder")
        self.ask, self.answered = threading.Event(), threading.Event()
        self.answer = b""

    def run(self) -> None:
        local = filled(8)
        while True:
            self.ask.wait()
            self.ask.clear()
            self.answer = state_of(local)
            self.answered.set()

    def value(self) -> bytes:
        self.answered.clear()
        self.ask.set()
        return self.answer if self.answered.wait(30) else b"the thread did not answer"


HOLDER = Holder()
HOLDER.start()
remembered()


def state_of(value) -> bytes:
    """Shape and every byte of a tensor or array; the text of an error if it cannot be read."""
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        return repr((value.shape, str(value.dtype))).encode() + value.tobytes()
    except Exception as error:  # a damaged bystander is an answer here, not a crash
        return f"cannot be read: {error!r}".encode()


def module_state() -> bytes:
    return b"".join(name.encode() + state_of(tensor) for name, tensor in MODULE.state_dict().items())


def gradient() -> bytes:
    try:
        (found,) = torch.autograd.grad(GRAPH, LEAF, retain_graph=True)
        return state_of(found)
    except Exception as error:  # as above
        return f"cannot be read: {error!r}".encode()


WAYS = {
    "module constant": lambda: state_of(CONSTANT),
    "dict value": lambda: state_of(TABLE["nested"]["value"]),
    "nn.Module at module level": module_state,
    "Parameter": lambda: state_of(PARAMETER),
    "view of a tensor": lambda: state_of(VIEW),
    "closure": lambda: state_of(CLOSURE()),
    "functools.partial": lambda: state_of(PARTIAL()),
    "__slots__ object": lambda: state_of(SLOTTED.value),
    "lru_cache value": lambda: state_of(remembered()) if remembered.cache_info().misses == 1 else b"recomputed",
    "local of a running thread": HOLDER.value,
    "autograd graph": gradient,
    "numpy array sharing a tensor": lambda: state_of(SHARING),
    "numpy array of its own": lambda: state_of(OWNING),
}

with torch.inference_mode(False), torch.enable_grad():
    EXPECTED = {name: read() for name, read in WAYS.items()}


def damaged() -> list[str]:
    """Names of the ways whose content is no longer bit for bit what it was."""
    # Prompts run in inference mode, where autograd would refuse the graph.
    with torch.inference_mode(False), torch.enable_grad():
        return [name for name, read in WAYS.items() if read() != EXPECTED[name]]


def damage_one() -> None:
    """Empties one bystander as a careless sweep would: shows that the check can fail."""
    CONSTANT.data = torch.empty(0)
