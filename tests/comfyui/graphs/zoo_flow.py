"""Toy nodes that steer a workflow: fail, block, wait, expand, loop, show."""

import asyncio
import hashlib

import numpy
import torch
from comfy_execution.graph_utils import ExecutionBlocker, GraphBuilder
from harness.toys import ANY, toy, watched

# What output nodes wrote, in order: the files of a SaveImage.
WRITTEN: list[tuple[str, str]] = []


def deep_digest(value) -> str:
    """A hash over every number that a value of a known kind holds."""
    if isinstance(value, torch.Tensor):
        text = repr((tuple(value.shape), str(value.dtype))).encode() + value.numpy().tobytes()
    elif isinstance(value, dict):
        # A ControlNet has no content of its own: what it does shows in the sampler's result.
        plain = {key: item for key, item in value.items() if key != "control"}
        text = repr([(key, deep_digest(plain[key])) for key in sorted(plain)]).encode()
    elif isinstance(value, (list, tuple)):
        text = repr([deep_digest(item) for item in value]).encode()
    else:
        text = repr(value).encode()
    return hashlib.sha256(text).hexdigest()[:16]


@toy(output=True)
def ToyShow(value, name):
    shown = deep_digest(value)
    WRITTEN.append((name, shown))
    return {"ui": {"saved": [shown]}}


@toy(output=True)
def ToyShowAndPass(value, name):
    """An output node in the middle of a workflow: it has written, and its output holds memory."""
    shown = deep_digest(value)
    WRITTEN.append((name, shown))
    return {"ui": {"saved": [shown]}, "result": (value + 1,)}


@toy(many_in=True, output=True)
def ToyShowList(values, name):
    shown = [deep_digest(value) for value in values]
    WRITTEN.append((name[0], str(shown)))
    return {"ui": {"saved": shown}}


class ToyWait:
    """An async node: waits while others run, and then reads its input."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,)}}

    async def run(self, value):
        await asyncio.sleep(0.001)
        return (watched("wait", value.numpy() * numpy.float32(3)),)


@toy()
def ToyBlock(value, blocked):
    return (ExecutionBlocker(None) if blocked == "yes" else value,)


@toy()
def ToyFail(value, how):
    """Fails as a node does that has an error, runs out of memory, or sees the user's cancel."""
    import comfy.model_management as management

    if how == "error":
        raise ValueError("as asked")
    if how == "oom":
        raise management.OOM_EXCEPTION("out of memory, as asked")
    if how == "interrupt":
        management.interrupt_current_processing()
        management.throw_exception_if_processing_interrupted()
    return (value + 1,)


def litter() -> None:
    """Leaves a tensor in a reference cycle, which only the collector finds."""
    cycle: list = [watched("litter", numpy.ones(16, dtype=numpy.float32))]
    cycle.append(cycle)


@toy()
def ToyLitter(value):
    litter()
    return (value + 1,)


@toy(outputs=(ANY, ANY))
def ToyGrow(value, sweep):
    """Becomes step, step, step, with a sweep before the last one if wanted."""
    graph = GraphBuilder()
    first = graph.node("ToyStep", "first", label="grown", value=value)
    middle = graph.node("ToyStep", "middle", label="grown", value=first.out(0))
    last = graph.node("ToyStep", "last", label="grown", value=middle.out(0))
    if sweep != "none":
        swept = graph.node("MemSweepFree", "sweep", anything=middle.out(0), level=sweep)
        last.set_input("value", swept.out(0))
    return {"result": (first.out(0), last.out(0)), "expand": graph.finalize()}
