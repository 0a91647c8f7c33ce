"""Budgets inside a real ComfyUI process, as ratios within one run; see `cargo xtask bench`.

Prints one JSON object per line: name, ratio, budget (null: none), ok. The sides of a ratio take
turns, and the best of each counts, so other work on the machine moves both or neither.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import executor  # noqa: E402
from harness.paths import checkpoints  # noqa: E402
from harness.reports import unpacked  # noqa: E402

ROUNDS = 9
READINGS = 200
READING_BUDGET_S = 0.001


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="load the full-size checkpoint")
    full = parser.parse_args().full
    executor.boot()
    if not executor.load_pack():
        print("the node pack did not load", file=sys.stderr)
        return 1
    held = load_checkpoint("full" if full else "small")
    rows = [collect_node(held), *candidates(held), reading()]
    for row in rows:
        print(json.dumps(row), flush=True)
    return 0 if all(row["ok"] for row in rows) else 1


def load_checkpoint(name: str) -> tuple:
    """MODEL, CLIP and VAE as a workflow holds them: the heap that a sweep meets."""
    import folder_paths
    import nodes

    folder_paths.add_model_folder_path("checkpoints", str(checkpoints()))
    loader = nodes.NODE_CLASS_MAPPINGS["CheckpointLoaderSimple"]()
    return loader.load_checkpoint(f"{name}.safetensors")


def collect_node(held: tuple) -> dict:
    """A node at level `collect` with nothing to free does one collection, and little else."""
    import nodes

    node = nodes.NODE_CLASS_MAPPINGS["MemSweepFree"]()
    answer = node.run(anything=held[0], level="collect")
    report = unpacked(answer["ui"]["memsweep"][0])
    if report is None or report["level"] != "collect":
        raise SystemExit(f"the node did not sweep: {answer['ui']['text'][0]}")
    ours, one = race(lambda: node.run(anything=held[0], level="collect"), gc.collect)
    return row("ComfyUI: collect node with nothing to free", ours / one, 1.3)


def candidates(held: tuple) -> list[dict]:
    """What a sweep must know of the heap, against one collection of the same heap."""
    import torch
    from memsweep import _memsweep, hosting

    # What a sweep may take: tensors and modules. Arrays count for protection, but the collector does
    # not list them, so asking for them too means a walk over the whole heap: a row without a budget.
    types = (torch.Tensor, torch.nn.Module)
    with_arrays = hosting.memory_types()
    frames = [sys._getframe()]
    found = _memsweep.candidates(list(held), types, frames)
    if not found.protected or not found.visited:
        raise SystemExit("the walk saw nothing")
    print(f"{found.visited} objects, {len(gc.get_objects())} tracked", file=sys.stderr)
    del found
    unchecked, arrays, checked, one = race(
        lambda: _memsweep.candidates(list(held), types, frames, check_pinned=False),
        lambda: _memsweep.candidates(list(held), with_arrays, frames, check_pinned=False),
        lambda: _memsweep.candidates(list(held), types, frames),
        gc.collect,
    )
    return [
        row("ComfyUI: protected set + candidates", unchecked / one, 0.35),
        row("ComfyUI: with arrays", arrays / one, None),
        row("ComfyUI: with pinned check", checked / one, None),
    ]


def reading() -> dict:
    """One reading, against its budget of a millisecond."""
    import memsweep

    memsweep.reading()
    best = min(seconds(memsweep.reading) for _ in range(READINGS))
    return row("ComfyUI: one reading, against 1 ms", best / READING_BUDGET_S, 1.0)


def race(*calls: Callable[[], object]) -> list[float]:
    """The best time of each, taken in turns."""
    gc.collect()
    rounds = [[seconds(call) for call in calls] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def row(name: str, ratio: float, budget: float | None) -> dict:
    ok = budget is None or ratio <= budget
    return {"name": name, "ratio": round(ratio, 3), "budget": budget, "ok": ok}


if __name__ == "__main__":
    sys.exit(main())
