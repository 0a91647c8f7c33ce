"""Loops in ComfyUI's own executor, as ratios within one run; see `cargo xtask bench`.

Prints one JSON object per line: name, ratio, budget, ok. Peaks are bytes of the tensors that the loop's
nodes make, less what the loop itself carries on; times are those of whole prompts.
"""

import gc
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import executor  # noqa: E402

FEW, MANY = 3, 30
ROUNDS = 3
LONG_TURNS = 12
HISTORY_TURNS, HISTORY_BYTES = 60, 200_000
SHORT_TURN_BUDGET_S = 0.030


def main() -> int:
    executor.boot()
    if not executor.load_pack():
        print("the node pack did not load", file=sys.stderr)
        return 1
    rows = [*peaks(), *times(), history()]
    for row in rows:
        print(json.dumps(row), flush=True)
    return 0 if all(row["ok"] for row in rows) else 1


def peaks() -> list[dict]:
    from loops import LOOPS

    return [
        row(f"peak of {MANY} turns against {FEW}, {kind}", peak(kind, MANY) / peak(kind, FEW), 1.2)
        for kind in LOOPS
    ]


def peak(kind: str, turns: int) -> float:
    from harness import toy_loops, toys
    from loops import CARRIED, LOOPS

    memory = toy_loops.MEMORY = toy_loops.Memory()
    played(LOOPS[kind](turns, sweep=True))
    return memory.peak - CARRIED[kind] * turns * toys.BYTES


def times() -> list[dict]:
    """What sweeps add to each turn of a loop: to one that takes next to no time, and to one of a second."""
    return [
        *(
            row(f"a sweep in a short turn, {kind}, against 30 ms", short_turn(kind) / SHORT_TURN_BUDGET_S, 1.0)
            for kind in ("loop", "unrolled")
        ),
        row("turns of 1 s with sweeps, against without", long_turns(True) / long_turns(False), 1.3),
    ]


def short_turn(kind: str) -> float:
    from loops import LOOPS

    without, with_sweeps = [], []
    for _ in range(ROUNDS):
        without.append(seconds(LOOPS[kind](MANY, sweep=False)))
        with_sweeps.append(seconds(LOOPS[kind](MANY, sweep=True)))
    return max(0.0, min(with_sweeps) - min(without)) / MANY


def long_turns(sweep: bool) -> float:
    from harness import toy_loops
    from loops import LOOPS

    class Slow(toy_loops.Memory):
        """The two nodes of a turn that make something take half a second each."""

        def hold(self, values):
            time.sleep(0.5)
            return super().hold(values)

    usual, toy_loops.MEMORY = toy_loops.MEMORY, Slow()
    try:
        return seconds(LOOPS["loop"](LONG_TURNS, sweep=sweep))
    finally:
        toy_loops.MEMORY = usual


def seconds(prompt: dict) -> float:
    from harness import toys

    # What the prompt before left is no part of this one: an executor and its caches are cycles.
    toys.forget()
    gc.collect()
    # The collector runs by itself now and then, for as long as ten turns; what counts is when we run it.
    gc.disable()
    try:
        start = time.perf_counter()
        played(prompt)
        return time.perf_counter() - start
    finally:
        gc.enable()


def history() -> dict:
    from loops import LOOPS

    result = played(LOOPS["loop"](HISTORY_TURNS, sweep=True))
    size = sum(len(json.dumps(out)) for out in result.outputs.values() if "memsweep" in out)
    if not size:
        raise SystemExit("the loop left no report")
    return row(f"history of {HISTORY_TURNS} turns, against 200 kB", size / HISTORY_BYTES, 1.0)


def played(prompt: dict) -> object:
    from harness import toys

    toys.forget()
    result = executor.Runner("RAM_PRESSURE").run(prompt)
    if not result.ok:
        raise SystemExit(result.error)
    return result


def row(name: str, ratio: float, budget: float) -> dict:
    return {"name": name, "ratio": round(ratio, 3), "budget": budget, "ok": ratio <= budget}


if __name__ == "__main__":
    sys.exit(main())
