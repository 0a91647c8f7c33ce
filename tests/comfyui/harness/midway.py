"""Toy nodes that stop in the middle of their work until the test lets them go on, and other things that can
hold a model on another thread."""

import asyncio
import contextlib
import threading

import comfy.model_management as management
import torch

from harness.toys import ANY, digest, toy

WAIT = 60


class Stop:
    """A place where a thread waits until it may go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def wait(self):
        self.reached.set()
        assert self.go_on.wait(WAIT), "nobody let it go on"


STOPS: dict[str, Stop] = {}


@toy()
def ToyMidway(model, value, stop):
    """Samples: loads the model, computes, waits in the middle, and computes on."""
    management.load_models_gpu([model])
    layer = model.model.layer
    with torch.no_grad():
        half = layer(value.reshape(-1, 256))
        if stop in STOPS:
            STOPS[stop].wait()
        return (layer(half),)


class ToyMidwayAsync:
    """The same as an async node."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: (ANY,) for name in ("model", "value", "stop")}}

    async def run(self, model, value, stop):
        management.load_models_gpu([model])
        with torch.no_grad():
            half = model.model.layer(value.reshape(-1, 256))
            if stop in STOPS:
                STOPS[stop].reached.set()
                while not STOPS[stop].go_on.is_set():
                    await asyncio.sleep(0.001)
            return (model.model.layer(half),)


@toy(output=True)
def ToyDigest(value):
    return {"ui": {"saved": [digest(value)]}}


@toy()
def ToyInner(value, inner):
    """Runs another prompt inside this node, on this thread, while it is using a model."""
    model = INNER[inner]["model"]
    management.load_models_gpu([model])
    with torch.no_grad():
        half = model.model.layer(value.reshape(-1, 256))
        outer = asyncio.events._get_running_loop()
        asyncio.events._set_running_loop(None)
        try:
            INNER[inner]["result"] = INNER[inner]["run"]()
        finally:
            asyncio.events._set_running_loop(outer)
        return (model.model.layer(half),)


INNER: dict[str, dict] = {}
TOYS = {thing.__name__: thing for thing in (ToyMidway, ToyMidwayAsync, ToyDigest, ToyInner)}


@contextlib.contextmanager
def running(name, work, stop=None):
    """Runs `work` on a thread of this name; goes on when it has reached `stop`, and ends it after."""
    answer = {}

    def run():
        try:
            answer["result"] = work()
        except BaseException as error:
            answer["error"] = error

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        if stop is not None:
            assert stop.reached.wait(WAIT), f"{name} did not get there: {answer}"
        yield answer
    finally:
        if stop is not None:
            stop.go_on.set()
        thread.join(WAIT)
        assert not thread.is_alive(), f"{name} did not end"
    if "error" in answer:
        raise answer["error"]
