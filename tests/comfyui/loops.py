"""Workflows with loops, for tests and for `cargo xtask bench`: each turn makes something large, and
carries something small on."""

from workflows import node


def loop(turns, sweep, level="evict"):
    """Like the loops of packs: a start, a body, and an end that becomes the next turn."""
    prompt = {"0": node("ToySource", label="source", seed=1)}
    prompt |= body("", ["0", 0], turns, sweep, level)
    return ended(prompt, ["close", 0])


def nested(turns, sweep, level="evict"):
    """A loop of two turns in each turn."""
    prompt = {
        "0": node("ToySource", label="source", seed=1),
        "outer": node("ToyLoopStart", value=["0", 0], times=turns),
    }
    prompt |= body("in ", ["outer", 1], 2, sweep, level)
    prompt["end"] = node("ToyLoopClose", flow=["outer", 0], value=["in close", 0], early="no")
    return ended(prompt, ["end", 0])


def with_list(turns, sweep, level="evict"):
    """A list in each turn, whose items are worked on one by one."""
    prompt = {
        "0": node("ToySource", label="source", seed=1),
        "start": node("ToyLoopStart", value=["0", 0], times=turns),
        "list": node("ToyList", label="list", value=["start", 1]),
        "large": node("ToyEnlarge", value=["list", 0]),
        "small": node("ToyShrink", value=["large", 0]),
        "join": node("ToyJoin", values=["small", 0]),
    }
    last = swept(prompt, "", ["join", 0], sweep, level)
    prompt["close"] = node("ToyLoopClose", flow=["start", 0], value=last, early="no")
    return ended(prompt, ["close", 0])


def unrolled(turns, sweep, level="evict"):
    """Like ComfyUI's own loops: all turns at once, and an output node that reads each."""
    prompt = {
        "0": node("ToySource", label="source", seed=1),
        "1": node("ToySource", label="other", seed=2),
        "loop": node(
            "ToyUnroll", value=["0", 0], other=["1", 0], times=turns, sweep=level if sweep else "none"
        ),
    }
    return ended(prompt, ["loop", 0])


def body(name, value, turns, sweep, level):
    prompt = {
        f"{name}start": node("ToyLoopStart", value=value, times=turns),
        f"{name}large": node("ToyEnlarge", value=[f"{name}start", 1]),
        f"{name}small": node("ToyShrink", value=[f"{name}large", 0]),
    }
    last = swept(prompt, name, [f"{name}small", 0], sweep, level)
    prompt[f"{name}close"] = node(
        "ToyLoopClose", flow=[f"{name}start", 0], value=last, early="no"
    )
    return prompt


def swept(prompt, name, last, sweep, level):
    if not sweep:
        return last
    prompt[f"{name}sweep"] = node("MemSweepFree", anything=last, level=level)
    return [f"{name}sweep", 0]


def ended(prompt, last):
    prompt["save"] = node("ToySave", value=last)
    return prompt


LOOPS = {"loop": loop, "nested": nested, "list": with_list, "unrolled": unrolled}
# Values of their own making that the copies of one turn have among their inputs, and so keep.
CARRIED = {"loop": 1, "nested": 2, "list": 0, "unrolled": 0}
