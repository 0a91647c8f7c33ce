"""Parks beside one writer after the other, and counts; see meter/__init__.py."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time

import memsweep

from meter import kinds
from meter.native import native
from meter.rounds import HELD, Kind

# Small, so that a park is quick: what moves while the writer writes.
OTHERS, OTHER_BYTES, PAGE = 2, 2**20 + 2**18, 4096
# So that now and then a writer returns from its call and its memory is checked.
PARKS_PER_CALL = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="meter", description=__doc__)
    parser.add_argument("families", nargs="*", help=f"of {', '.join(kinds.FAMILIES)}")
    parser.add_argument("--parks", type=int, default=20, help="how many must count, for each kind")
    parser.add_argument("--kind", help="only this one")
    parser.add_argument("--until-lost", action="store_true", help="stop a kind at its first lost write")
    arguments = parser.parse_args()
    for family in arguments.families or kinds.FAMILIES:
        lacking = kinds.lacking(family)
        if lacking:
            print(f"{family}: {lacking} is not installed", file=sys.stderr)
            continue
        for name, kind in kinds.load(family).items():
            if arguments.kind in (None, name):
                print(json.dumps(measure(name, kind, arguments)), flush=True)
    return 0


def measure(name: str, make: type[Kind], arguments: argparse.Namespace) -> dict:
    start = time.monotonic()
    row = {"kind": name, "parks": 0, "counted": 0, "calls": 0, "lost": 0, "late": 0}
    late = native.came_late()
    row["why"] = refused = why_not(make) or make.not_here()
    row["idle_moves"] = refused is None and idle_moves(make)
    # A kind whose memory is never moved can lose nothing.
    kind = fresh(make)
    while row["idle_moves"] and row["counted"] < arguments.parks:
        call(kind, row, arguments.parks)
        # Enough to know that it loses writes, or too long to hope that parks still fit into its calls.
        if arguments.until_lost and row["lost"] or row["calls"] > 10 * arguments.parks:
            break
    kind.close()
    row["late"] = native.came_late() - late
    row["seconds"] = round(time.monotonic() - start, 1)
    return row


def call(kind: Kind, row: dict, parks: int) -> None:
    """One call of the writer, with as many parks beside it as fit in."""
    row["calls"] += 1
    counted = row["counted"]
    native.enough(False)
    running = kind.start()
    while running.is_alive():
        if not native.inside():
            time.sleep(0.0005)
            continue
        dirty()
        before = native.others_moved()
        begun = time.monotonic()
        moved = outcome().get("bytes", 0)
        native.quiet(min(max(int(1000 * (time.monotonic() - begun)), 20), 500))
        row["parks"] += 1
        row["counted"] += moved > 0 and native.others_moved() > before
        if row["counted"] >= min(parks, counted + PARKS_PER_CALL):
            break
    native.enough(True)
    running.join()
    row["lost"] += kind.lost()
    # Where few parks fit into a call, most of them end when it has nothing left to write.
    if row["counted"] < counted + 3:
        kind.times = min(kind.times * 2, kind.most)


def why_not(make: type[Kind]) -> str | None:
    """Why nothing at all can be parked here."""
    HELD.clear()
    dirty()
    found = outcome()
    return found["reason"] if found["kind"] == "unsupported" else None


def idle_moves(make: type[Kind]) -> bool:
    """Whether this memory moves while no writer is inside: else the kind says nothing about its holder."""
    kind = fresh(make)
    before = native.own_compared()
    outcome()
    kind.close()
    return native.own_compared() > before


def fresh(make: type[Kind]) -> Kind:
    HELD.clear()
    native.forget()
    gc.collect()
    return make()


def dirty() -> None:
    """Memory that is already parked and clean would not move again."""
    others = HELD.setdefault("others", [])
    while len(others) < OTHERS:
        others.append(bytearray(b"o") * OTHER_BYTES)
    for other in others:
        pages = len(range(0, OTHER_BYTES, PAGE))
        other[::PAGE] = bytes([(other[0] + 1) % 256]) * pages


def outcome() -> dict:
    """What parking says about itself."""
    rows = memsweep.park([HELD]).to_dict()["rows"]
    return next(row["outcome"] for row in rows if row["action"]["kind"] == "park")


if __name__ == "__main__":
    sys.exit(main())
