"""How long other threads wait while memory is parked; see `cargo xtask bench`.

Prints one JSON object per line: name, ratio, budget (null: none), ok. A thread that looks at the clock all the
time measures: what it does not see of the clock is a stop. The heap has about 2.9 million objects, and the
collector is off. The stops after the first walk are ratios to what they may take, the first walk one to a
`gc.collect()` of the same heap.
"""

import gc
import json
import statistics
import sys
import threading
import time

import memsweep
import torch
from bench_walk import containers
from memsweep.parking import Parking

LONGEST = 0.050
MEDIAN = 0.020
# Shorter ones are the system's, or the interpreter's when threads take turns.
SHORTEST = 0.001
SIZE = 2 * 2**30
BLOCK = 8 * 2**20


class Ticking:
    """Notes when time passed that this thread did not see."""

    def __init__(self):
        self.stops = []
        self._ended = False
        self._thread = threading.Thread(target=self._tick)

    def _tick(self):
        last = time.perf_counter()
        while not self._ended:
            now = time.perf_counter()
            if now - last > SHORTEST:
                self.stops.append((last, now - last))
            last = now

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._thread.join()


def main():
    kept = containers(725_000, shuffle=False)
    held = [torch.full((BLOCK // 4,), float(n)) for n in range(SIZE // BLOCK)]
    gc.collect()
    start = time.perf_counter()
    gc.collect()
    collect = time.perf_counter() - start
    gc.disable()
    begun = []
    Parking.progress = lambda self, done, total: None if begun else begun.append(time.perf_counter())
    with Ticking() as ticking:
        report = memsweep.park([held], parking={"folder": "/var/tmp"})
    if report.freed is None or report.freed < 0.95 * SIZE:
        print(f"parking gave back {report.freed} of {SIZE}: {report}", file=sys.stderr)
        return 1
    first = max(length for start, length in ticking.stops if start < begun[0])
    later = [length for start, length in ticking.stops if start >= begun[0]]
    rows = [
        ("longest stop after the first walk, of 50 ms", max(later) / LONGEST, 1),
        ("median of these stops, of 20 ms", statistics.median(later) / MEDIAN, 1),
        ("the first walk, against gc.collect()", first / collect, None),
    ]
    for name, ratio, budget in rows:
        ok = budget is None or ratio <= budget
        row = {"name": f"park 2 GiB: {name}", "ratio": round(ratio, 3), "budget": budget, "ok": ok}
        print(json.dumps(row), flush=True)
    print(f"{len(later)} stops, {sum(later):.3f} s in all; the first walk {first:.3f} s", file=sys.stderr)
    print(sorted(round(1000 * length) for length in later), file=sys.stderr)
    return len(kept) == 0


if __name__ == "__main__":
    sys.exit(main())
