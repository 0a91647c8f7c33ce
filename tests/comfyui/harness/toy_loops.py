"""Loops, in each of the ways that packs build them: nodes that become copies of other nodes.

Where a loop carries a value on, the copies hold it as an object, not as a link.
"""

import weakref

import numpy
import torch
from comfy_execution.graph_utils import GraphBuilder, is_link

from harness.toys import ANY, digest, toy


class Memory:
    """What the nodes below made and is still in memory, and the most that it ever was, in bytes."""

    def __init__(self):
        self._made: list[tuple[weakref.ref, int]] = []
        self.peak = 0

    def hold(self, values: numpy.ndarray) -> torch.Tensor:
        self._made = [(ref, size) for ref, size in self._made if ref() is not None]
        self._made.append((weakref.ref(values), values.nbytes))
        self.peak = max(self.peak, sum(size for _, size in self._made))
        return torch.from_numpy(values)


MEMORY = Memory()
TIMES_LARGER = 16


@toy()
def ToyEnlarge(value):
    return (MEMORY.hold(numpy.repeat(value.numpy() + numpy.float32(1), TIMES_LARGER)),)


@toy()
def ToyShrink(value):
    return (MEMORY.hold(value.numpy()[::TIMES_LARGER].copy()),)


@toy(outputs=(ANY, ANY))
def ToyLoopStart(value, times):
    """The first output ties the end of the loop to its start."""
    return (times, value)


class ToyLoopClose:
    """Becomes a copy of all that lies between the start and itself, with the value carried on."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"flow": (ANY, {"rawLink": True}), "value": (ANY,), "early": ("STRING",)},
            "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def body(cls, dynprompt, start, end):
        return between(dynprompt, start, end)

    def run(self, flow, value, early, dynprompt, unique_id):
        start = flow[0]
        left = dynprompt.get_node(start)["inputs"]["times"]
        if left <= 1 or (early == "yes" and digest(value) < "8"):
            return (value,)
        graph = GraphBuilder()
        body = self.body(dynprompt, start, unique_id)
        copies = {}
        for node in sorted(body):
            copies[node] = graph.node(
                dynprompt.get_node(node)["class_type"], "again" if node == unique_id else node
            )
            copies[node].set_override_display_id(node)
        for node, copy in copies.items():
            for name, given in dynprompt.get_node(node)["inputs"].items():
                inside = is_link(given) and given[0] in copies
                copy.set_input(name, copies[given[0]].out(given[1]) if inside else given)
        copies[start].set_input("value", value)
        copies[start].set_input("times", left - 1)
        return {"result": (copies[unique_id].out(0),), "expand": graph.finalize()}


class ToyForClose:
    """Has only links, and becomes the end of a loop as above: the for-loops of packs."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        raw = (ANY, {"rawLink": True})
        return {"required": {"flow": raw, "value": raw, "early": ("STRING",)}}

    def run(self, flow, value, early):
        graph = GraphBuilder()
        end = graph.node("ToyLoopClose", "while", flow=flow, value=value, early=early)
        return {"result": (end.out(0),), "expand": graph.finalize()}


class ToyCloseWithOutputs(ToyLoopClose):
    """Copies the output nodes too that read the body, as some packs do."""

    @classmethod
    def body(cls, dynprompt, start, end):
        body = super().body(dynprompt, start, end)
        inside = body - {start, end}
        shows = {
            node for node in dynprompt.all_node_ids()
            if dynprompt.get_node(node)["class_type"] == "ToyShowTwo"
            and any(is_link(v) and v[0] in inside for v in dynprompt.get_node(node)["inputs"].values())
        }
        return body | shows


@toy(output=True)
def ToyShowTwo(a, b):
    return {"ui": {"saved": [digest(a), digest(b)]}}


class ToyTwoSweeps:
    """Becomes two nodes that each become a sweep of the same name."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,), "level": (ANY,)}}

    def run(self, value, level):
        graph = GraphBuilder()
        if level != "both":
            last = graph.node("MemSweepFree", "free", anything=value, level=level)
        else:
            first = graph.node("ToyTwoSweeps", "a", value=value, level="trim")
            last = graph.node("ToyTwoSweeps", "b", value=first.out(0), level="evict")
        return {"result": (last.out(0),), "expand": graph.finalize()}


def between(dynprompt, start, end) -> set[str]:
    """Both, and the nodes that lead from one to the other."""
    known = {start: True}

    def leads_here(node):
        if node not in known:
            known[node] = False
            sources = [v[0] for v in dynprompt.get_node(node)["inputs"].values() if is_link(v)]
            # All of them: each one's own sources have to be looked at.
            known[node] = any([leads_here(source) for source in sources])
        return known[node]

    leads_here(end)
    return {node for node, leads in known.items() if leads}


@toy(output=True)
def ToyTurn(value):
    """An output node that reads what each turn made, as ComfyUI's own loops have one."""
    return {"ui": {"turn": ["read"]}}


class ToyUnroll:
    """Becomes all its turns at once, and waits for the last: the shape of ComfyUI's own loops."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": (ANY,), "other": (ANY,), "times": ("INT",), "sweep": ("STRING",)},
            "hidden": {"dynprompt": "DYNPROMPT"},
        }

    def run(self, value, other, times, sweep, dynprompt):
        graph = GraphBuilder()
        for turn in range(times):
            made = graph.node("ToyEnlarge", f"large{turn}", value=value)
            small = graph.node("ToyShrink", f"small{turn}", value=made.out(0))
            graph.node("ToyTurn", f"turn{turn}", value=made.out(0))
            value = graph.node("ToyMix", f"mix{turn}", label="turn", a=small.out(0), b=other).out(0)
            if sweep != "none":
                value = graph.node("MemSweepFree", f"free{turn}", anything=value, level=sweep).out(0)
        return {"result": (value,), "expand": graph.finalize()}


class ToyReach:
    """Becomes a node that reads one which nothing leads to from here."""

    CATEGORY, FUNCTION, RETURN_TYPES = "toy", "run", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,)}, "hidden": {"dynprompt": "DYNPROMPT"}}

    def run(self, value, dynprompt):
        nodes = sorted(dynprompt.all_node_ids())
        # Sources only: what leads here from there could not wait for it.
        found = [n for n in nodes if dynprompt.get_node(n)["class_type"] == "ToySource"]
        graph = GraphBuilder()
        other = [found[0], 0] if found else value
        mixed = graph.node("ToyMix", "mix", label="reach", a=value, b=other)
        return {"result": (mixed.out(0),), "expand": graph.finalize()}


@toy(many_in=True)
def ToyJoin(values):
    """One value from a list."""
    joined = values[0]
    for value in values[1:]:
        joined = joined + value
    return (joined,)


TOYS = {
    name: thing for name, thing in list(globals().items())
    if name.startswith("Toy") and isinstance(thing, type)
}
