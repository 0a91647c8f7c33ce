"""A report's numbers against an independent reading of /proc around the node."""

import gc

import pytest
from workflows import node

NEAR = 4 * 1024 * 1024


@pytest.fixture
def result_and_readings(comfy, toys):
    """One run with 256 MB of garbage for the node to find, read before and after it."""
    runner = comfy.Runner("CLASSIC")
    prompt = {
        "number": node("ToyValue", kind="number"),
        "garbage": node("ToyGarbage", value=["number", 0], megabytes=256),
        "before": node("ToyStatus", value=["garbage", 0], name="before"),
        "sweep": node("MemSweepFree", anything=["before", 0], level="collect"),
        "after": node("ToyStatus", value=["sweep", 0], name="after"),
        "save": node("ToySave", value=["after", 0]),
    }
    # The garbage must still be there when the node begins.
    gc.disable()
    try:
        result = runner.run(prompt)
        assert not gc.isenabled(), "the node switched the collector on"
    finally:
        gc.enable()
    assert result.ok, result.error
    return result, toys.ARMED["before"], toys.ARMED["after"]


def test_process_numbers_agree_with_proc(result_and_readings):
    result, before, after = result_and_readings
    report = result.report("sweep")
    for moment, reading in (("before", before), ("after", after)):
        process = report[moment]["process"]
        assert process["resident"] == pytest.approx(reading["VmRSS"], abs=NEAR), moment
        assert process["anonymous"] == pytest.approx(reading["RssAnon"], abs=NEAR), moment
        assert process["file_backed"] == pytest.approx(reading["RssFile"], abs=NEAR), moment


def test_freed_is_the_difference_of_the_readings(result_and_readings):
    result, before, after = result_and_readings
    freed = result.report("sweep")["freed"]
    assert freed["process_anonymous"] == pytest.approx(before["RssAnon"] - after["RssAnon"], abs=NEAR)
    assert freed["process_resident"] == pytest.approx(before["VmRSS"] - after["VmRSS"], abs=NEAR)
    # The garbage was there, and it is what was freed.
    assert freed["process_anonymous"] > 250 * 2**20


def test_the_rows_together_are_what_was_freed(result_and_readings):
    report = result_and_readings[0].report("sweep")
    rows = [row["measured"]["process_anonymous"] for row in report["rows"]]
    measured = [value for value in rows if value is not None]
    assert measured
    assert sum(measured) == pytest.approx(report["freed"]["process_anonymous"], abs=NEAR)


def test_what_cannot_be_read_is_absent_and_never_zero(result_and_readings):
    """No CUDA device, not Windows, not macOS: those numbers do not exist here."""
    report = result_and_readings[0].report("sweep")
    for moment in ("before", "after"):
        process = report[moment]["process"]
        assert process.get("commit") is None
        assert process.get("footprint") is None
        for name in ("resident", "anonymous", "file_backed"):
            assert process[name] > 0
        for device in report[moment]["devices"]:
            if not device["id"].startswith("cuda"):
                assert device["torch"]["allocated"] is None
        assert report[moment]["machine"]["total"] > 0
    assert report["goal"] is None
    assert report["goal_met"] is None


def test_the_text_shown_on_the_node_is_the_text_of_the_report(comfy, toys):
    runner = comfy.Runner("CLASSIC")
    result = runner.run(
        {
            "source": node("ToySource", label="source", seed=1),
            "sweep": node("MemSweepFree", anything=["source", 0], level="evict"),
            "save": node("ToySave", value=["sweep", 1]),
        }
    )
    assert result.ok, result.error
    shown = result.outputs["sweep"]
    assert shown["text"] == [shown["memsweep"][0]["text"]]
    # The last output is the same text, for a node that shows text.
    assert result.outputs["save"]["saved"] == [repr(shown["text"][0])]


def test_a_report_node_frees_nothing(comfy, toys):
    runner = comfy.Runner("CLASSIC")
    result = runner.run(
        {
            "source": node("ToySource", label="source", seed=1),
            "a": node("ToyStep", label="a", value=["source", 0]),
            "model": node("ToyModel", label="idle"),
            "join": node("ToyFour", a=["a", 0], b=["model", 0], c=["a", 0], d=["a", 0]),
            "report": node("MemSweepReport", anything=["join", 0]),
            "check": node("ToyCheck", name="right after", value=["report", 0]),
            "loaded": node("ToyLoaded", value=["report", 0]),
        }
    )
    assert result.ok, result.error
    assert toys.SEEN_ALIVE["right after"] == {"source", "a", "idle"}
    assert result.outputs["loaded"]["loaded"] == ["idle"]
    # It has nothing to say about releases: it is a reading.
    report = result.report("report")
    assert "rows" not in report
    assert report["reading"]["process"]["resident"] > 0
