"""Toy nodes that keep a tensor for themselves, in each of the ways that packs do.

What a node keeps is a pure function of its inputs, so running it again changes no result; a sweep
that empties, frees or overwrites what was kept does. A sweep at `destroy` may take it, loudly: then
the node does what the error says, and loads it again.
"""

import functools
import threading
import weakref

import torch
from harness import toys
from harness.toys import ANY, toy

KEPT_IN_MODULE: dict[int, torch.Tensor] = {}
# Tensors in use in a way that a walk of the heap cannot see. A sweep may never choose one of them.
HIDDEN: list[weakref.ref] = []
HOLDERS: dict[int, "Holder"] = {}
GRAPHS: dict[int, tuple] = {}
# Models that all executors of the process share as one object.
SHARED: dict[int, object] = {}


def fresh(seed: int) -> torch.Tensor:
    return torch.rand(toys.ELEMENTS, generator=torch.Generator().manual_seed(1000 + seed))


def is_destroyed(tensor: torch.Tensor) -> bool:
    from memsweep import DestroyedError

    try:
        tensor.untyped_storage()
    except DestroyedError:
        return True
    return False


def kept_in(table: dict[int, torch.Tensor], seed: int) -> torch.Tensor:
    if seed not in table or is_destroyed(table[seed]):
        table[seed] = fresh(seed)
    return table[seed]


def remembering():
    kept: dict[int, torch.Tensor] = {}

    def remember(seed):
        return kept_in(kept, seed)

    return remember, kept.clear


remember_in_closure, forget_closure = remembering()


@functools.lru_cache(maxsize=None)
def lru_cached(seed: int) -> torch.Tensor:
    return fresh(seed)


def remember_in_lru_cache(seed: int) -> torch.Tensor:
    if is_destroyed(lru_cached(seed)):
        lru_cached.cache_clear()
    return lru_cached(seed)


def remember_in_module(seed):
    return kept_in(KEPT_IN_MODULE, seed)


class Holder(threading.Thread):
    """Holds a tensor in a local variable only."""

    def __init__(self, seed: int):
        super().__init__(daemon=True, name="toy-holder")
        self.seed = seed
        self.ask, self.answered, self.ready = (threading.Event() for _ in range(3))
        self.ending = False
        self.answer = b""
        self.start()
        self.ready.wait()

    def run(self) -> None:
        local = fresh(self.seed)
        HIDDEN.append(weakref.ref(local))
        self.ready.set()
        while True:
            self.ask.wait()
            self.ask.clear()
            if self.ending:
                return
            self.answer = local.numpy().tobytes()
            self.answered.set()

    def value(self) -> torch.Tensor:
        self.answered.clear()
        self.ask.set()
        assert self.answered.wait(30), "the thread did not answer"
        return torch.frombuffer(bytearray(self.answer), dtype=torch.float32)

    def end(self) -> None:
        self.ending = True
        self.ask.set()
        self.join()


class ToyKeepSelf:
    """State on the node's instance."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY, ANY)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,), "seed": (ANY,)}}

    def __init__(self):
        self.kept: dict[int, torch.Tensor] = {}

    def run(self, value, seed):
        kept = kept_in(self.kept, seed)
        return (value + kept, kept)


@toy(outputs=(ANY, ANY))
def ToyKeepModule(value, seed):
    """State in a global; what is kept comes out too, so that the cache shares it."""
    kept = remember_in_module(seed)
    return (value + kept, kept)


@toy(outputs=(ANY, ANY))
def ToyKeepClosure(value, seed):
    kept = remember_in_closure(seed)
    return (value + kept, kept.clone())


@toy(outputs=(ANY, ANY))
def ToyKeepLru(value, seed):
    kept = remember_in_lru_cache(seed)
    return (value + kept, kept)


@toy()
def ToyKeepThread(value, seed):
    """State in a local variable of a thread that runs."""
    if seed not in HOLDERS:
        HOLDERS[seed] = Holder(seed)
    return (value + HOLDERS[seed].value(),)


@toy()
def ToyKeepGraph(value, seed):
    """State in an autograd graph: `exp` keeps its result for the backward pass, in C++."""
    if seed not in GRAPHS or any(map(is_destroyed, GRAPHS[seed])):
        with torch.inference_mode(False), torch.enable_grad():
            leaf = fresh(seed).requires_grad_()
            saved = leaf.exp()
            HIDDEN.append(weakref.ref(saved))
            GRAPHS[seed] = (leaf, saved, saved.sum())
    leaf, _, total = GRAPHS[seed]
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True)
    return (value + gradient,)


def holders() -> list:
    """What may rightly hold a tensor after a sweep, besides ComfyUI's own caches."""
    return [KEPT_IN_MODULE, GRAPHS, HOLDERS, SHARED, remember_in_closure, lru_cached]


def forget() -> None:
    for holder in HOLDERS.values():
        holder.end()
    for table in (KEPT_IN_MODULE, HOLDERS, GRAPHS, HIDDEN, SHARED):
        table.clear()
    forget_closure()
    lru_cached.cache_clear()
