"""Workflows on a real ComfyUI, with and without the nodes; see `cargo xtask demo`.

Two servers, one after the other. The first has no MemSweep: it gives the reference images, and shows what
ComfyUI's own `/free` gives back. The second has it: each prompt runs with one node of ours, and its image
must match the reference to the last bit.
"""

import argparse
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.comfy_server import ComfyServer, PromptResult  # noqa: E402
from workflows import OUR_NODES, Variation, node, text_to_image  # noqa: E402

# The first time is easy; after that the C heap keeps what it gets, unless it is trimmed.
ROUNDS = 2
# How large the server may stay after a node that frees all, against its size at rest.
LARGEST_RATIO = 1.15
# How much of what the nodes still to run do not need must be on disk after a node that parks in the middle.
LEAST_PARKED = 0.8
# Memory is at rest when three looks in a row, this far apart, agree this well.
REST_PAUSE_S, REST_BYTES, REST_LIMIT_S = 0.3, 4 << 20, 20.0
# How often a quiet step says that it is still alive.
HEARTBEAT_S = 30.0
MIB = 1 << 20
UNKNOWN = "not known"

# The output that our node is connected to, and the input that takes its own. None: it ends there.
MIDDLE = (["sampler", 0], ("decode", "samples"))
BEFORE_SAVE = (["decode", 0], ("save", "images"))
END = (["decode", 0], None)


@dataclass(frozen=True)
class Placement:
    """Where a node of ours stands, and with which settings."""

    label: str
    kind: str
    place: tuple
    settings: dict = field(default_factory=dict)
    frees_all: bool = False  # then it must bring the server down to its size at rest
    parks: bool = False  # then nearly all that is idle must be on disk, both times

    def into(self, prompt: dict) -> dict:
        """The same prompt with the node in it."""
        source, target = self.place
        inputs = {(*OUR_NODES[self.kind].passes, "anything")[0]: source, **self.settings}
        prompt["ours"] = node(self.kind, **inputs)
        if target is not None:
            prompt[target[0]]["inputs"][target[1]] = ["ours", 0]
        return prompt


PLACEMENTS = (
    Placement("Purge ALL (end)", "CleanMemory_PurgeAll", END, frees_all=True),
    Placement("Purge RAM (end)", "CleanMemory_PurgeRAM", END, frees_all=True),
    Placement("Free Memory, aggressive (end)", "FreeMemoryImage", BEFORE_SAVE, {"aggressive": True}, True),
    Placement("Purge & Pass VRAM (middle)", "CleanMemory_PurgePass", MIDDLE, {"mode": "VRAM"}),
    Placement("Purge & Pass RAM (middle)", "CleanMemory_PurgePass", MIDDLE, {"mode": "RAM"}, parks=True),
    Placement("Release Model (end)", "MemSweepReleaseModel", BEFORE_SAVE, {"model": ["loader", 0]}),
    Placement("Free Memory, collect (middle)", "MemSweepFree", MIDDLE, {"level": "collect"}),
    Placement("Free Memory, trim (middle)", "MemSweepFree", MIDDLE, {"level": "trim"}),
)


@dataclass(frozen=True)
class Run:
    """What one prompt with a node of ours gave."""

    report: dict | None
    resident: int | None  # of the server, read from outside; None where the system does not say
    identical: bool


@dataclass(frozen=True)
class Row:
    """One placement, its first and its second time."""

    placement: Placement
    runs: list[Run]


class Step:
    """A long step on the screen: its heading, signs of life, and how long it took."""

    def __init__(self, heading: str):
        self.start = self.spoke = time.monotonic()
        print(f"{heading} ...", file=sys.stderr, flush=True)

    def tick(self, detail: str) -> None:
        if time.monotonic() - self.spoke > HEARTBEAT_S:
            self.spoke = time.monotonic()
            print(f"      {self.spoke - self.start:.0f} s  {detail}", file=sys.stderr, flush=True)

    def finish(self, word: str) -> None:
        print(f"      {word} ({time.monotonic() - self.start:.1f} s)", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="use the full-size checkpoint")
    parser.add_argument("--serve", action="store_true", help="leave the server up")
    parser.add_argument("--port", type=int, help="port of the server with MemSweep")
    options = parser.parse_args()
    # Asked to end, the servers end and their folders go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prompts = [picture(number, options.full) for number in range(len(PLACEMENTS) * ROUNDS)]
    own_free, references = without_nodes(prompts)
    with started(with_pack=True, port=options.port) as server:
        idle = at_rest(server)
        rows = with_nodes(server, prompts, references)
        print(f"\n{table(rows)}\n")
        print("Each node ran twice: first line, second line. RAM is the server's VmRSS. Before, after and")
        print("released: the node's own report. Afterwards: read from outside, the prompt having ended.\n")
        good = conclude(rows, idle, own_free, limited=options.full)
        if options.serve:
            print(f"\nserving at http://127.0.0.1:{server.port} (Ctrl-C ends it)", flush=True)
            server.process.wait()
            sys.exit(f"ComfyUI ended by itself\n{server.log_tail()}")
    return 0 if good else 1


def picture(number: int, full: bool) -> dict:
    """Each has a seed and a text of its own, so no output is in the cache."""
    own = Variation(seed=1000 + number, text=f"a broom in a bright attic, study {number}", prefix="demo")
    return text_to_image(own, f"{'full' if full else 'small'}.safetensors", steps=1 if full else 2)


@contextmanager
def started(with_pack: bool, port: int | None = None) -> Iterator[ComfyServer]:
    step = Step(f"Starting ComfyUI {'with' if with_pack else 'without'} MemSweep")
    server = ComfyServer(with_pack=with_pack)
    server.port = port or server.port
    with server:
        step.finish("ready")
        yield server


def run(server: ComfyServer, prompt: dict) -> PromptResult:
    result = server.run(prompt)
    if not result.ok or not result.image_hashes:
        sys.exit(f"the prompt failed: {result.error or 'it saved no image'}")
    return result


def at_rest(server: ComfyServer) -> int | None:
    """Memory of the server once it stopped changing; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    deadline = time.monotonic() + REST_LIMIT_S
    seen = [server.resident_bytes()]
    while time.monotonic() < deadline and (len(seen) < 3 or max(seen[-3:]) - min(seen[-3:]) > REST_BYTES):
        time.sleep(REST_PAUSE_S)
        seen.append(server.resident_bytes())
    return seen[-1]


def without_nodes(prompts: list[dict]) -> tuple["Sizes", list[list[str]]]:
    """What ComfyUI's own `/free` leaves, and the images without our nodes."""
    with started(with_pack=False) as server:
        idle, after, images = at_rest(server), [], []
        step = Step(f"Running {len(prompts)} prompts without the nodes")
        for number, prompt in enumerate(prompts):
            step.tick(f"{number} of {len(prompts)}")
            images.append(run(server, prompt).image_hashes)
            if number < ROUNDS:
                server.free()
                after.append(at_rest(server))
        step.finish("done")
    return Sizes(idle, after), images


def with_nodes(server: ComfyServer, prompts: list[dict], references: list[list[str]]) -> list[Row]:
    step = Step(f"Running {len(prompts)} prompts with the nodes")
    rows = [Row(placement, []) for placement in PLACEMENTS]
    for number, (prompt, reference) in enumerate(zip(prompts, references, strict=True)):
        row = rows[number // ROUNDS]
        step.tick(row.placement.label)
        result = run(server, row.placement.into(prompt))
        row.runs.append(Run(result.reports().get("ours"), at_rest(server), result.image_hashes == reference))
    step.finish("done")
    return rows


# -- what is shown


def conclude(rows: list[Row], idle: int | None, own_free: "Sizes", limited: bool) -> bool:
    """Prints what the table amounts to. True when it is as promised."""
    good = True
    for row in rows:
        if row.placement.frees_all:
            sizes = Sizes(idle, [run.resident for run in row.runs])
            large = limited and any(ratio is not None and ratio > LARGEST_RATIO for ratio in sizes.ratios)
            excuse = f"  TOO LARGE: at most {LARGEST_RATIO} x is promised" if large else ""
            print(f"{sizes.told(row.placement.label)}{excuse}")
            good = good and not large
        if row.placement.parks:
            shares = [parked_share(run) for run in row.runs]
            little = any(share is not None and share < LEAST_PARKED for share in shares)
            excuse = f"  TOO LITTLE: at least {LEAST_PARKED:.0%} is promised" if little else ""
            told = ", then ".join(map(parked_told, row.runs))
            print(f"on disk after {row.placement.label}, of what no node still to run needs: {told}{excuse}")
            good = good and not little
    print(own_free.told("ComfyUI's own /free"))
    runs = [run for row in rows for run in row.runs]
    identical = sum(run.identical for run in runs)
    print(f"images identical: {identical} of {len(runs)}")
    reported = all(run.report is not None for run in runs)
    if not reported:
        print("  A NODE LEFT NO REPORT")
    return good and reported and identical == len(runs)


@dataclass(frozen=True)
class Sizes:
    """How large the server stays, as a multiple of its size at rest."""

    idle: int | None
    after: list[int | None]

    @property
    def ratios(self) -> list[float | None]:
        """None where the system does not say."""
        return [after / self.idle if after is not None and self.idle else None for after in self.after]

    def told(self, label: str) -> str:
        parts = [
            UNKNOWN if ratio is None else f"{mib(after)} = {ratio:.2f} x"
            for after, ratio in zip(self.after, self.ratios, strict=True)
        ]
        return f"idle server {mib(self.idle)}; after {label}: {', then '.join(parts)}"


def mib(size: int | None) -> str:
    # Rounded towards zero: less than one is shown as none.
    return UNKNOWN if size is None else f"{int(size / MIB)} MiB"


def number(run: Run, *names: str) -> int | None:
    """A number of the report, by the names that lead to it."""
    found: Any = run.report
    for name in names:
        found = (found or {}).get(name)
    return found


def level(run: Run) -> str:
    if run.report is None:
        return "no report"
    done, asked = run.report["level"], run.report.get("requested_level")
    return done if asked in (None, done) else f"{done} (of {asked})"


def let_go(run: Run) -> list[str]:
    """Files and titles of what a node released: models by their part, outputs by their node."""
    done = [row for row in (run.report or {}).get("rows", ()) if row["outcome"]["kind"] == "done"]
    models = [row["action"]["name"] for row in done if row["action"]["kind"] == "unload"]
    outputs = [name for row in done if row["action"]["kind"] == "evict" for name in row["because"]["entries"]]
    return models + ([f"outputs of {', '.join(outputs)}"] if outputs else [])


def park_outcome(run: Run) -> dict | None:
    """What the park step says; None where it did not run or cannot park on this system."""
    rows = (run.report or {}).get("rows", ())
    found = [row["outcome"] for row in rows if row["action"]["kind"] == "park"]
    return next((outcome for outcome in found if outcome["kind"] == "parked"), None)


def parked_sizes(run: Run) -> tuple[int, int] | None:
    """What is on disk, and all that is idle: with what could have moved and did not."""
    outcome = park_outcome(run)
    if outcome is None:
        return None
    parked = outcome["bytes"] + outcome["already"]
    return parked, parked + sum(row["bytes"] for row in outcome["refused"])


def parked_share(run: Run) -> float | None:
    sizes = parked_sizes(run)
    return None if sizes is None or not sizes[1] else sizes[0] / sizes[1]


def parked_told(run: Run) -> str:
    sizes = parked_sizes(run)
    return UNKNOWN if sizes is None else f"{mib(sizes[0])} of {mib(sizes[1])}"


def before_and_after(run: Run) -> str:
    sizes = [number(run, when, "process", "resident") for when in ("before", "after")]
    return UNKNOWN if None in sizes else " -> ".join(str(size // MIB) for size in sizes) + " MiB"


COLUMNS: tuple[tuple[str, Callable[[str, int], str], Callable[[Run], str]], ...] = (
    ("Level", str.ljust, level),
    ("RAM before -> after", str.rjust, before_and_after),
    ("Released", str.rjust, lambda run: mib(number(run, "freed", "process_resident"))),
    ("Afterwards", str.rjust, lambda run: mib(run.resident)),
    ("Image", str.ljust, lambda run: "identical" if run.identical else "DIFFERS"),
)


def table(rows: list[Row]) -> str:
    """One line for each run, the first of a placement with its label; then what that one let go."""
    header = ["Node", *(title for title, _, _ in COLUMNS)]
    blocks = [
        [["" if index else row.placement.label, *(cell(run) for _, _, cell in COLUMNS)]
         for index, run in enumerate(row.runs)]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *chain(*blocks), strict=True)]
    width = sum(widths) + 2 * len(COLUMNS)
    aligned = (str.ljust, *(align for _, align, _ in COLUMNS))

    def shown(line: list[str]) -> str:
        cells = zip(aligned, line, widths, strict=True)
        return "  ".join(align(cell, width) for align, cell, width in cells).rstrip()

    text = [shown(header), "-" * width]
    for row, block in zip(rows, blocks, strict=True):
        text += map(shown, block)
        for name in let_go(row.runs[0]):
            text += textwrap.wrap(name, width, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
