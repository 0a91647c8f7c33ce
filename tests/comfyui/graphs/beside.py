"""Another executor, on a thread of its own, that is in the middle of sampling during one turn.

It is let in and waited for at fixed places, so that a case is played the same way each time: it
samples half before the turn begins, and the other half when the turn is over. Its result must not
depend on what the sweeps of that turn did.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator

import comfy.model_management as management
import torch
from harness.executor import Runner
from harness.toys import toy
from workflows import node

from graphs.outcome import CounterExample
from graphs.zoo_flow import deep_digest
from graphs.zoo_models import patcher, shared_model
from graphs.zoo_state import HIDDEN, fresh

WAIT = 60
PROMPT = {"half": {}, "end": node("ToyBesideEnd", value=["half", 0])}
# Holds the other executor while it is halfway: filled by the node, checked by the watch.
HALF_WAY: list["Beside"] = []


class Beside:
    """One prompt of the other executor, in two halves."""

    def __init__(self, cache: str, model: str):
        self.model = model
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.shown: list | None = None
        # By id: whoever held the module would be a holder too.
        self.module = 0
        self._thread = threading.Thread(target=self._run, args=(cache,), daemon=True, name="beside")

    def _run(self, cache: str) -> None:
        try:
            result = Runner(cache).run({**PROMPT, "half": node("ToyBeside", which=self.model)}, ["end"])
            self.shown = [result.error, result.saved()]
        finally:
            self.reached.set()

    @contextlib.contextmanager
    def half_way(self) -> Iterator[None]:
        HALF_WAY.append(self)
        self._thread.start()
        try:
            assert self.reached.wait(WAIT), "the other executor did not get half way"
            yield
        finally:
            self.go_on.set()
            self._thread.join(WAIT)
            HALF_WAY.clear()
        if self._thread.is_alive() or self.shown is None:
            raise CounterExample("the other executor never came to an end")


@toy()
def ToyBeside(which):
    """Adds the weights twice, and holds a tensor and a model while it waits in between."""
    beside = HALF_WAY[0]
    if which == "the shared":
        model = shared_model(1)
    else:
        model = patcher(50)
        model.add_patches({"layer.weight": (torch.full((8, 8), 6.0),)}, 0.5)
    management.load_models_gpu([model])
    layer = model.model.layer
    held = fresh(77) + layer.weight[0, 0]
    HIDDEN.append(weakref.ref(held))
    beside.module = id(model.model)
    beside.reached.set()
    assert beside.go_on.wait(WAIT), "nobody let it go on"
    return (held + layer.weight[0, 1],)


@toy(output=True)
def ToyBesideEnd(value):
    return {"ui": {"saved": [deep_digest(value)]}}


def loaded_half_way() -> int | None:
    """The model the other executor is sampling with, by id, if it is loaded."""
    modules = [id(m.model.model) for m in management.current_loaded_models if m.model is not None]
    return next((b.module for b in HALF_WAY if b.module in modules), None)
