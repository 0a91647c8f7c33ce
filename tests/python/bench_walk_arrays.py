"""What arrays cost the heap walk, for every kind of dtype: time, in which every thread waits, and memory on top.

Prints one JSON object per line: name, ratio, budget (null: none), ok.
Each array holds 256 MiB. Time is compared with the walk over lists that hold as many references as the
array, memory with the array's own.
"""

import functools
import json
import sys

import numpy
from bench_walk import best
from memsweep import _memsweep as heap

BYTES = 256 * 2**20
RUNS = 5
# A reference costs the same wherever it is, and anything else costs nothing.
TIME_BUDGET = 1.5
# A walk that makes an object of every element takes several times the array.
PEAK_BUDGET = 0.1


def arrays() -> dict[str, numpy.ndarray]:
    """One array of each kind of dtype."""
    objects = numpy.dtype([("name", "O"), *((f"f{number}", "f8") for number in range(10))])
    nested = numpy.dtype([("id", "i8"), ("pair", [("left", "O"), ("right", "O", (2,))]), ("rest", "V32")])
    plain = numpy.dtype([("id", "i8"), ("place", "f4", (3,)), ("name", "S12")])
    made = {
        "numbers (f8)": numpy.dtype("f8"),
        "complex numbers (c16)": numpy.dtype("c16"),
        "booleans (?)": numpy.dtype("?"),
        "dates (M8)": numpy.dtype("M8[s]"),
        "bytes (S16)": numpy.dtype("S16"),
        "text (U8)": numpy.dtype("U8"),
        "void (V64)": numpy.dtype("V64"),
        "records without objects": plain,
        "records with an object": objects,
        "records with nested objects": nested,
        "objects (O)": numpy.dtype("O"),
    }
    if hasattr(numpy.dtypes, "StringDType"):
        made["variable text (T)"] = numpy.dtypes.StringDType()
    return {name: filled(dtype) for name, dtype in made.items()}


def filled(dtype: numpy.dtype) -> numpy.ndarray:
    array = numpy.zeros(BYTES // dtype.itemsize, dtype)
    text = [f"item {number}" for number in range(1000)]
    if dtype.names and "name" in dtype.names and dtype["name"].char == "O":
        array["name"] = numpy.resize(numpy.array(text, object), len(array))
    elif dtype.names and "pair" in dtype.names:
        array["pair"]["left"] = numpy.resize(numpy.array(text, object), len(array))
        array["pair"]["right"] = None
    elif dtype.char == "O":
        array[:] = numpy.resize(numpy.array(text, object), len(array))
    return array


def objects_in(dtype: numpy.dtype) -> int:
    """How many references one element has."""
    if dtype.subdtype:
        base, shape = dtype.subdtype
        return objects_in(base) * int(numpy.prod(shape))
    if dtype.names:
        return sum(objects_in(dtype[name]) for name in dtype.names)
    return int(dtype.char == "O")


def memory(name: str) -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(name))
    return int(line.split()[1]) * 1024


def on_top(call: object) -> int:
    """By how much resident memory grew while it ran."""
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


def walk(held: list) -> None:
    heap.candidates(held, (bytearray,))


def lists_of(references: int) -> list:
    """As many references to the same few objects, in lists."""
    text = [f"item {number}" for number in range(1000)]
    return [text * 10 for _ in range(references // 10_000)]


def main() -> int:
    good = True
    walk([])
    for name, array in arrays().items():
        lists = lists_of(array.size * objects_in(array.dtype))
        by_lists, by_array = best(RUNS, *(functools.partial(walk, [held]) for held in (lists, array)))
        rows = [
            ("time", by_array / by_lists, TIME_BUDGET),
            ("memory on top", on_top(functools.partial(walk, [array])) / array.nbytes, PEAK_BUDGET),
        ]
        for what, ratio, budget in rows:
            ok = ratio <= budget
            good = good and ok
            row = {"name": f"walk, {name}: {what}", "ratio": round(ratio, 3), "budget": budget, "ok": ok}
            print(json.dumps(row), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
