"""Memory that an error's traceback keeps is named at every level, with a cure that works."""

import gc
import json
import os
import subprocess
import sys
import textwrap
import threading

import memsweep
import pytest
from memsweep import kept_errors

MIB = 1 << 20
PROGRAM = """
import json, sys, memsweep
OUTSIDE = bytes(8 << 20)
class Thing:
    pass
def broken(mib):
    # Held by nothing but this function, in ways that a program has.
    buffer, thing = bytearray(mib << 20), Thing()
    thing.rows = {"rows": [b"x" * (mib << 20)]}
    small, also = bytes(1000), OUTSIDE
    raise ValueError("x")
def told(level="trim"):
    notes = memsweep.sweep(level=level, parking={"off": True}).to_dict()["notes"]
    return [note["reason"] for note in notes if note["because"]["kind"] == "kept_by_last_error"]
def cure(note):
    return note.split("`")[1]
def show(value):
    print("TOLD", json.dumps(value))
"""
LINES = """
broken(50)
show([told(level) for level in ("trim", "collect", "unload", "evict", "park", "destroy")])
show(memsweep.reading().process_anonymous)
exec(cure(told()[0]))
show(told())
show(memsweep.reading().process_anonymous)
"""


def interactive(tmp_path, *arguments, program=PROGRAM, lines=LINES):
    """A real interactive Python that reads lines, in which an error is not caught."""
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, *arguments], input=f"from program import *\n{lines}", capture_output=True,
        text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "PYTHON_BASIC_REPL": "1"},
    )
    told = [line.partition("TOLD ")[2] for line in done.stdout.splitlines() if "TOLD " in line]
    assert told, done.stderr
    return [json.loads(line) for line in told]


CODE = "import code; code.interact(local={})"
WAYS = {"python -i": ("-i",), "code.interact": ("-c", CODE)}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_uncaught_error_is_reported_at_every_level_and_the_cure_frees_it(tmp_path, way):
    levels, before, after_cure, after = interactive(tmp_path, *WAYS[way])
    for notes in levels:
        assert len(notes) == 1 and notes[0].startswith("at least 100.0 MiB are reached only from"), notes
        assert ("last_exc" in notes[0]) == (sys.version_info >= (3, 12))
    assert after_cure == []
    if sys.platform == "linux":
        assert before - after > 99 * MIB, "the cure is one that works"


def test_in_ipython_the_cure_is_another_error(tmp_path):
    pytest.importorskip("IPython")
    lines = LINES.replace("exec(cure(told()[0]))", "exec(cure(told()[0]))\nimport gc; gc.collect();")
    levels, before, after_cure, after = interactive(tmp_path, "-m", "IPython", "--simple-prompt", lines=lines)
    assert all(len(notes) == 1 and "at least 100.0 MiB" in notes[0] for notes in levels), levels
    assert after_cure == []
    if sys.platform == "linux":
        assert before - after > 99 * MIB, "the cure is one that works"


def test_an_error_that_keeps_little_is_not_mentioned(tmp_path):
    lines = 'broken(0)\nshow([told(), hasattr(sys, "last_value")])\n'
    assert interactive(tmp_path, "-i", lines=lines) == [[[], True]]


def broken(size, *more):
    buffer = bytearray(size)
    raise ValueError(len(buffer), more)


def notes():
    return [note["because"] for note in kept_errors.notes()]


def test_an_error_that_is_being_handled_keeps_memory_until_its_block_ends():
    try:
        broken(20 * MIB)
    except ValueError:
        (found,) = memsweep.sweep(level="trim").to_dict()["notes"]
    note = found["reason"]
    assert note.startswith("at least 20.0 MiB") and "this thread is handling" in note
    assert memsweep.sweep(level="trim").to_dict()["notes"] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 cannot tell the errors of other threads")
def test_an_error_that_another_thread_handles_is_reported_with_the_thread():
    ready, done = threading.Event(), threading.Event()

    def handle():
        try:
            broken(20 * MIB)
        except ValueError:
            ready.set()
            done.wait(60)

    thread = threading.Thread(target=handle, name="slow\nhandler")
    thread.start()
    assert ready.wait(60)
    (note,) = notes()
    done.set()
    thread.join()
    assert note["kind"] == "kept_by_handled_error" and note["bytes"] >= 20 * MIB
    assert note["thread"] == "'slow\\nhandler'"
    assert notes() == []


def caught(function):
    try:
        function()
    except ValueError as error:
        return error
    raise AssertionError("it did not fail")


def size(error):
    return sum(kept_errors.only_through([error]).values())


def test_what_something_else_holds_is_not_counted():
    shared, nested = bytearray(8 * MIB), [bytearray(8 * MIB)]

    def fails():
        mine, theirs, also = bytearray(4 * MIB), shared, nested
        raise ValueError(mine, theirs, also)

    assert size(caught(fails)) == 4 * MIB
    error = caught(fails)
    held = error.args[0]
    assert size(error) == 0, held[0]


def test_running_functions_and_modules_are_no_part_of_an_error():
    mine = bytearray(16 * MIB)
    error = caught(lambda: broken(2 * MIB))
    assert size(error) == 2 * MIB
    assert len(mine) == 16 * MIB


def test_looking_keeps_nothing_and_runs_no_foreign_code():
    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError("hands off")

    class Length(list):
        def __len__(self):
            raise RuntimeError("hands off")

    gc.collect()
    gc.disable()
    try:
        error = caught(lambda: broken(2 * MIB, Hostile(), Length(), range(3), {1: {2: 3}}))
        assert size(error) == 2 * MIB
        before = sys.getrefcount(error)
        size(error)
        assert sys.getrefcount(error) == before
        assert gc.collect() < 50
    finally:
        gc.enable()


def test_a_loop_of_errors_ends():
    error = caught(lambda: broken(2 * MIB))
    error.__context__ = ValueError()
    error.__context__.__context__ = error
    error.again = [error]
    assert size(error) == 2 * MIB


def test_an_error_that_leads_to_a_huge_program_is_looked_at_in_part():
    def fails():
        rows = [[] for _ in range(kept_errors._MOST_OBJECTS + 10)]
        few = [[bytearray(MIB)] for _ in range(3)]
        wide = [0] * 10**6
        raise ValueError(len(rows) + len(wide) + len(few))

    assert size(caught(fails)) in (0, 3 * MIB)


def test_tensors_and_arrays_count_once_and_only_when_nobody_shares_them():
    torch, numpy = pytest.importorskip("torch"), pytest.importorskip("numpy")
    outside = torch.ones(2 * MIB, dtype=torch.uint8)
    array = numpy.ones(2 * MIB, dtype=numpy.uint8)

    def fails():
        one, two = torch.ones(4 * MIB, dtype=torch.uint8), numpy.ones(8 * MIB, dtype=numpy.uint8)
        views = [two[5:], two[7:], torch.from_numpy(array)]
        theirs = [outside[3:], outside.detach(), array[1:]]
        module = torch.nn.Linear(1024, 1024)
        raise ValueError(one, views, theirs, module)

    # The last 4 MiB are the weight of the module.
    assert size(caught(fails)) == (4 + 8 + 4) * MIB
    assert size(caught(lambda: broken(MIB, outside[1:], torch.from_numpy(array)))) == MIB


def test_what_an_error_keeps_on_a_device_is_told_apart(monkeypatch):
    torch = pytest.importorskip("torch")
    real = kept_errors._blocks

    def on_a_card(values):
        blocks = zip(values, real(values), strict=True)
        return [("cuda:0", *block[1:]) if isinstance(value, torch.Tensor) else block for value, block in blocks]

    monkeypatch.setattr(kept_errors, "_blocks", on_a_card)
    try:
        broken(2 * MIB, torch.ones(3 * MIB, dtype=torch.uint8))
    except ValueError:
        [note] = kept_errors.notes()
        report = memsweep.sweep(level="trim").to_dict()
    assert (note["because"]["bytes"], note["because"]["devices"]) == (5 * MIB, {"cuda:0": 3 * MIB})
    assert note["because"].items() <= report["notes"][-1]["because"].items()
