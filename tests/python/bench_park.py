"""Parking against a plain sequential write of the same bytes to the same disk; see `cargo xtask bench`.

Prints one JSON object: name, ratio, budget, ok. The two take turns, and the best of each counts.
"""

import json
import os
import sys
import tempfile
import time

import memsweep
import torch

ROUNDS = 5
# As much as the test of many tensors parks: finding what is idle costs the same for any size.
SIZE = 2 * 2**30
BLOCK = 8 * 2**20
# At least 70 % of the plain write's speed.
BUDGET = 1 / 0.7


def main() -> int:
    folder = "/var/tmp"
    plain, parked = [], []
    for number in range(ROUNDS):
        held = [torch.full((BLOCK // 4,), float(number + n)) for n in range(SIZE // BLOCK)]
        plain.append(write(folder, held))
        start = time.perf_counter()
        report = memsweep.park([held], parking={"folder": folder})
        parked.append(time.perf_counter() - start)
        if report.freed is None or report.freed < 0.95 * SIZE:
            print(f"parking gave back {report.freed} of {SIZE}: {report}", file=sys.stderr)
            return 1
        del held
    ratio = min(parked) / min(plain)
    row = {
        "name": "park 2 GiB, against a plain write + fdatasync of it",
        "ratio": ratio,
        "budget": BUDGET,
        "ok": ratio <= BUDGET,
    }
    print(json.dumps(row), flush=True)
    return 0 if row["ok"] else 1


def write(folder: str, held: list) -> float:
    """Writes the same bytes in large pieces to one file, and flushes them to disk."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        start = time.perf_counter()
        for tensor in held:
            file.write(memoryview(tensor.numpy()).cast("B"))
        os.fdatasync(file.fileno())
        return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
