"""Budgets inside a real ComfyUI process, as ratios within one run; see `cargo xtask bench`.

Prints one JSON object per line: name, ratio, budget, ok. The two sides of a ratio take turns, and
the best of each counts, so other work on the machine moves both or neither.
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
    rows = [collect_node(held), candidates(held), reading()]
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
    report = answer["ui"]["memsweep"][0]["report"]
    if report is None or report["level"] != "collect":
        raise SystemExit(f"the node did not sweep: {answer['ui']['text'][0]}")
    ours, one = race(lambda: node.run(anything=held[0], level="collect"), gc.collect)
    return row("collect node with nothing to free, against one gc.collect()", ours / one, 1.3)


def candidates(held: tuple) -> dict:
    """What a sweep must know of the heap, against one collection of the same heap."""
    from memsweep import _memsweep, hosting

    types = hosting.Storages.types()
    frames = [sys._getframe()]
    found = _memsweep.candidates(list(held), types, frames)
    if not found.protected or not found.visited:
        raise SystemExit("the walk saw nothing")
    del found
    ours, one = race(lambda: _memsweep.candidates(list(held), types, frames), gc.collect)
    name = f"protected set + candidates in ComfyUI ({len(gc.get_objects())} tracked objects)"
    return row(f"{name}, against one gc.collect()", ours / one, 0.35)


def reading() -> dict:
    """One reading, against its budget of a millisecond."""
    import memsweep

    memsweep.reading()
    best = min(seconds(memsweep.reading) for _ in range(READINGS))
    return row("one reading in ComfyUI, against 1 ms", best / READING_BUDGET_S, 1.0)


def race(ours: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """The best time of each, taken in turns."""
    gc.collect()
    pairs = [(seconds(ours), seconds(other)) for _ in range(ROUNDS)]
    return min(first for first, _ in pairs), min(second for _, second in pairs)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def row(name: str, ratio: float, budget: float) -> dict:
    return {"name": name, "ratio": round(ratio, 3), "budget": budget, "ok": ratio <= budget}


if __name__ == "__main__":
    sys.exit(main())
