"""What the nodes say: in the log, on the node and to the front-end, with names and errors from anywhere."""

import logging
import os
import sys

import pytest
from harness.executor import pack
from harness.reports import notes
from workflows import node

# A node's id is any string of the prompt's JSON, half a character included.
FORGED = "7\n[INFO] node 8: MemSweep freed 9 GiB\x1b[2J\r\u202e\udc80"


@pytest.fixture
def logged(caplog):
    """What MemSweep wrote to the log, as one text for each record."""
    caplog.set_level(logging.INFO, logger="memsweep")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "memsweep"]


@pytest.fixture
def runner(comfy, toys):
    return comfy.Runner("CLASSIC")


def swept(name="sweep", **widgets):
    return {
        "source": node("ToySource", label="source", seed=1),
        "a": node("ToyStep", label="a", value=["source", 0]),
        name: node("MemSweepFree", anything=["a", 0], **{"level": "evict", **widgets}),
        "save": node("ToySave", value=[name, 0]),
    }


def check_one_line(text):
    assert text.isprintable(), ascii(text)


def test_the_id_of_a_node_forges_no_line_and_costs_no_facts(runner, logged):
    result = runner.run(swept(FORGED))
    assert result.ok, result.error
    (line,) = logged()
    check_one_line(line)
    assert line.startswith("#7\\n[INFO] node 8")
    assert any(row["action"]["kind"] == "evict" for row in result.report(FORGED)["rows"])
    for line in result.text(FORGED).strip("\n").split("\n"):
        check_one_line(line)


def test_the_error_of_another_pack_forges_no_line(runner, logged, monkeypatch):
    from memsweep import hosting

    def broken(*_arguments):
        raise RuntimeError("out of order\n[INFO] node 8: 9 GiB\x1b[2J\udc80")

    monkeypatch.setattr(hosting, "sweep_with", broken)
    result = runner.run(swept(FORGED))
    assert result.ok, result.error
    (record,) = logged()
    first, *trace = record.split("\n")
    assert first.startswith("the sweep of #7\\n[INFO]") and len(trace) > 3
    for line in (first, *trace):
        check_one_line(line)
    assert all(line.startswith("    | ") for line in trace)
    shown = result.outputs[FORGED]["memsweep"][0]
    assert shown["report"] is None
    assert shown["problem"]["what"].startswith("MemSweep stopped.")
    check_one_line(shown["problem"]["why"])
    assert "out of order" in shown["problem"]["why"] and "out of order" in result.text(FORGED)


def test_without_the_native_module_the_front_end_says_what_to_do(runner, logged, monkeypatch):
    monkeypatch.delitem(sys.modules, "memsweep.hosting")
    monkeypatch.setitem(sys.modules, "memsweep", None)
    result = runner.run(swept(FORGED))
    assert result.ok, result.error
    problem = result.outputs[FORGED]["memsweep"][0]["problem"]
    assert problem["what"] == pack("service").INSTALL
    assert "memsweep" in problem["why"]
    (line,) = logged()
    check_one_line(line)


BROKEN = {
    "MEMSWEEP_PARK": ("perhaps", "\udcff\n", "2"),
    "MEMSWEEP_PARK_FOLDER": ("/var/tmp/\udce9t\udce9",),
    "MEMSWEEP_PARK_BYTES": ("1_000", "nan", "9" * 400),
    "MEMSWEEP_PARK_SECONDS": ("inf", "-1"),
}


@pytest.mark.parametrize(("variable", "value"), [(v, value) for v, values in BROKEN.items() for value in values])
def test_a_setting_that_is_wrong_parks_nothing_and_stops_nothing_else(runner, logged, monkeypatch, variable, value):
    monkeypatch.setitem(os.environ, variable, value)
    result = runner.run({
        **swept(),
        "ram": node("CleanMemory_PurgeRAM", anything=["a", 0]),
    })
    assert result.ok, result.error
    for name in ("sweep", "ram"):
        report = result.report(name)
        told = [note for note in notes(report) if note.startswith("nothing was parked: ")]
        assert len(told) == 1 and ("MEMSWEEP_PARK" in told[0] or "folder" in told[0])
        check_one_line(told[0])
        assert [row["outcome"]["kind"] for row in report["rows"] if row["action"]["kind"] == "collect"]
        assert not [row for row in report["rows"] if row["action"]["kind"] == "park"]
    assert (result.report("ram")["requested_level"], result.report("ram")["level"]) == ("park", "evict")


def test_memory_that_an_error_keeps_is_reported_by_every_node(runner, monkeypatch):
    def broken():
        buffer = bytearray(3 << 20)
        raise ValueError(len(buffer))

    try:
        broken()
    except ValueError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
    for level in ("trim", "collect", "unload", "evict"):
        report = runner.run(swept(level=level)).report("sweep")
        (told,) = [note for note in notes(report) if "uncaught error" in note]
        assert told.startswith("at least 3.0 MiB") and "`del sys.last_value`" in told


def test_a_look_for_kept_errors_that_fails_is_no_reason_to_stop(runner, logged, monkeypatch):
    from memsweep import hosting

    def broken():
        raise RuntimeError("out of order")

    monkeypatch.setattr(hosting, "kept_error_notes", broken)
    result = runner.run(swept())
    assert result.report("sweep")["rows"]
    assert any("it could not be determined what errors keep alive" in line for line in logged())


def test_a_reading_comes_with_its_lines_and_models_as_fields(runner, toys):
    result = runner.run({"report": node("MemSweepReport")} | swept())
    assert result.ok, result.error
    told = result.report("report")
    lines = [f"{'  ' if line['part'] else ''}{line['name']}" for line in told["lines"]]
    shown = [line.rpartition(": ")[0] for line in result.text("report").split("\n")]
    assert shown[: len(lines)] == lines
    models = [f"model {model['name']} on {model['device']}" for model in told["models"]]
    rest = [f"- {row['reason']}" for row in told.get("rest", [])]
    assert shown[len(lines) :] == [*models, *([""] if rest else []), *rest]
