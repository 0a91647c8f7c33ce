"""What happens when ComfyUI is not what we take it for: less is freed, as declared, and nothing else changes."""

import importlib.util
import logging
import random
import sys
from pathlib import Path

import pytest
from extent import QUICK, scaled
from harness.paths import REPOSITORY
from workflows import node

PAIRS = scaled(0, 16, 400)
SWEEPS = ("pass", "free", "leave", "purge")


def workflow(seed):
    """Everything at once: cached outputs, a list, a model with patches, a node that becomes others, and sweeps
    of each kind in the middle and at the end."""
    return {
        "source": node("ToySource", label="source", seed=seed),
        "a": node("ToyStep", label="a", value=["source", 0]),
        "list": node("ToyList", label="list", value=["a", 0]),
        "pass": node("CleanMemory_PurgePass", data=["list", 0], mode="RAM"),
        "mixed": node("ToyStep", label="mixed", value=["pass", 0]),
        "model": node("ToyPatched", label="model", seed=3),
        "used": node("ToyApply", label="used", model=["model", 0], value=["a", 0]),
        "free": node("MemSweepFree", anything=["used", 0], level="evict"),
        "again": node("ToyApply", label="again", model=["model", 0], value=["free", 0]),
        "leave": node("MemSweepFree", anything=["again", 0], level="unload"),
        "inside": node("ToyExpand", label="inside", value=["leave", 0]),
        "one": node("ToySave", value=["mixed", 0]),
        "two": node("ToySave", value=["again", 0]),
        "three": node("ToySave", value=["inside", 1]),
        "purge": node("CleanMemory_PurgeAll", anything=["inside", 1], leftovers="destroy"),
    }


def prompts():
    """The second finds some outputs of the first in the cache."""
    first, second = workflow(1), workflow(1)
    second["again"]["inputs"]["label"] = "again, differently"
    return [first, second, workflow(2)]


def played(comfy, toys, cache):
    """What each prompt saved, and the reports."""
    runner, saved, reports = comfy.Runner(cache), [], []
    for prompt in prompts():
        result = runner.run(prompt)
        assert result.ok, result.error
        saved.append(result.saved())
        for name in SWEEPS:
            assert name not in result.outputs or result.report(name) is not None, result.text(name)
        reports.append({name: result.report(name) for name in SWEEPS if name in result.outputs})
    return saved, reports


@pytest.fixture(scope="module")
def harness(comfy):
    from harness import broken

    return broken


@pytest.fixture(scope="module")
def table(comfy):
    return {row.name: row for row in comfy.pack("comfy_host.assumptions").TABLE}


EXPECTED: dict[str, list] = {}


@pytest.fixture
def expected(comfy, toys, faults, cache):
    if cache not in EXPECTED:
        EXPECTED[cache], reports = played(comfy, toys, cache)
        assert done(reports, "evict") and done(reports, "unload")
        toys.forget()
    return EXPECTED[cache]


@pytest.fixture(params=["RAM_PRESSURE"] if QUICK else ["RAM_PRESSURE", "CLASSIC"])
def cache(request):
    return request.param


def steps(report, kind):
    return [row for row in report["rows"] if row["action"]["kind"] == kind]


def done(reports, kind):
    """The steps of a kind that released something."""
    rows = (row for report in reports for one in report.values() for row in steps(one, kind))
    return [row for row in rows if row["outcome"]["kind"] in ("done", "destroyed", "parked")]


def notes(reports):
    return {note["because"]["kind"] for report in reports for one in report.values() for note in one["notes"]}


def test_each_has_a_way_to_be_broken(harness, table):
    assert harness.BREAKS.keys() == table.keys()


def test_here_each_holds(comfy):
    assert comfy.pack("comfy_host.assumptions").missing() == {}


def names():
    """Of the table's file alone, which needs no ComfyUI until it looks something up."""
    path = Path(REPOSITORY, "comfyui/comfy_host/assumptions.py")
    spec = importlib.util.spec_from_file_location("memsweep_test_assumptions", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if QUICK:
        # One for each thing that a wrong sweep could come from.
        most = (module.Off.OUTPUTS, module.Off.EMPTYING, module.Off.DESTROYING)
        return [next(row.name for row in module.TABLE if row.off is off) for off in most]
    return [row.name for row in module.TABLE]


@pytest.mark.parametrize("name", names())
def test_a_broken_one_switches_off_what_it_says(comfy, toys, harness, table, cache, expected, caplog, name):
    off = table[name].off.name
    with harness.broken([name]) as assumptions, caplog.at_level(logging.WARNING, logger="memsweep"):
        saved, reports = played(comfy, toys, cache)
        assert assumptions.missing().keys() == {table[name].off}
    assert saved == expected
    told = [line for line in caplog.messages if line.startswith("This ComfyUI has no")]
    assert told == [f"This ComfyUI has no {name} ({table[name].shape}): {table[name].off.value}"]
    if off == "OUTPUTS":
        assert not done(reports, "evict") and not done(reports, "destroy")
        assert "executor_unknown" in notes(reports)
    if off == "DESTROYING":
        rows = [row for report in reports for row in steps(report["purge"], "destroy")]
        assert {row["outcome"]["kind"] for row in rows} == {"failed"}
        assert all("what ComfyUI's executor holds" in row["outcome"]["error"] for row in rows)
    if off == "UNLOADING":
        assert not done(reports, "unload")
    if off not in ("OUTPUTS",):
        assert done(reports, "evict")


@pytest.mark.parametrize("number", range(PAIRS))
def test_two_broken_ones_change_nothing_but_what_is_freed(comfy, toys, harness, table, expected, cache, number):
    pair = random.Random(number).sample(sorted(table), 2)
    try:
        with harness.broken(pair) as assumptions:
            saved, reports = played(comfy, toys, cache)
            off = {row.name for row in assumptions.missing()}
    except AssertionError as error:
        if " has no " in str(error):
            pytest.skip("the second name is gone with the first")
        raise
    assert saved == expected, pair
    assert off == {table[name].off.name for name in pair}
    if "OUTPUTS" in off:
        assert not done(reports, "evict") and not done(reports, "destroy")
