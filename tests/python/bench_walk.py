"""What the heap walk costs, as a multiple of one `gc.collect()` on the same heap in the same run.

Prints one JSON object per line: name, ratio, budget (null: none), ok.
The heap has about 2.7 million objects: small containers, and modules when torch is there.
"""

import argparse
import gc
import json
import random
import sys
import time

from memsweep import _memsweep as heap

BUDGET = 0.35


class Record:
    def __init__(self, number):
        self.name = f"record {number}"
        self.size = 100_000 + number
        self.parent = None


class Wanted:
    """Stands in for tensors and modules where torch is missing."""

    def __init__(self, number):
        self.number = number
        self.held = [Record(number)]


def containers(count, shuffle):
    """Containers, most of them tracked, with leaves of their own; `shuffle` spreads them in memory."""
    makers = [
        lambda n: {"a": float(n), "b": [n + 1_000_000]},
        lambda n: [float(n), f"{n}", (n + 2_000_000, [])],
        lambda n: (float(n), [f"{n}"]),
        Record,
    ]
    made = [makers[number % len(makers)](number) for number in range(count)]
    if shuffle:
        random.Random(0).shuffle(made)
    return made


def models(count):
    try:
        import torch
    except ImportError:
        return [Wanted(number) for number in range(12_000)], (Wanted,)

    def block():
        return torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(6)], torch.nn.LayerNorm(8))

    with torch.no_grad():
        made = [torch.nn.Sequential(*[block() for _ in range(24)]) for _ in range(count)]
    return made, (torch.Tensor, torch.nn.Module)


def best(runs, *calls):
    """The best time of each call, taken in turn so that all see the same neighbours.

    Time on the processor: all of it is computation, and other programs share the processor with us.
    """
    times = [[] for _ in calls]
    for _ in range(runs):
        for call, seconds in zip(calls, times, strict=True):
            start = time.thread_time()
            result = call()
            seconds.append(time.thread_time() - start)
            del result
    return [min(seconds) for seconds in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=540_000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--shuffle", action="store_true")
    arguments = parser.parse_args()
    made, types = models(18)
    kept = containers(arguments.containers, arguments.shuffle)
    gc.collect()
    objects = heap.candidates([], types).visited
    collect, unchecked, checked = best(
        arguments.runs,
        gc.collect,
        lambda: heap.candidates(made, types, check_pinned=False),
        lambda: heap.candidates(made, types),
    )
    rows = [
        ("walk: protected set + candidates", unchecked / collect, BUDGET),
        ("walk: with pinned check", checked / collect, None),
    ]
    for name, ratio, budget in rows:
        ok = budget is None or ratio <= budget
        print(json.dumps({"name": name, "ratio": round(ratio, 3), "budget": budget, "ok": ok}))
    print(
        f"{objects} objects, {len(gc.get_objects())} tracked, gc.collect {collect:.3f} s, best of {arguments.runs}",
        file=sys.stderr,
    )
    return len(kept)


if __name__ == "__main__":
    main()
