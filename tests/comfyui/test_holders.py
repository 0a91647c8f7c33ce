"""What holds the rest, as a node reports it in a real executor."""

import sys

from workflows import node


def rows(report, kind):
    return [row for row in report.get("rest", []) if row["because"]["kind"] == kind]


def test_the_graph_of_a_cached_output_that_stays_is_told(comfy, toys):
    prompt = {
        "trained": node("ToyTrained", label="trained"),
        "plain": node("ToySource", label="plain", seed=1),
        "sweep": node("MemSweepFree", anything=["plain", 0], level="evict"),
        "check": node("ToyCheck", name="check", value=["trained", 0], also=["sweep", 0]),
    }
    result = comfy.Runner("CLASSIC").run(prompt)
    assert result.ok, result.error
    [row] = rows(result.report("sweep"), "graph")
    assert "ToyTrained" in row["because"]["output"], row


def test_memory_report_tells_what_an_error_keeps(comfy, toys, monkeypatch):
    prompt = {
        "plain": node("ToySource", label="plain", seed=1),
        "report": node("MemSweepReport", anything=["plain", 0]),
        "save": node("ToySave", value=["report", 0]),
    }
    runner = comfy.Runner("CLASSIC")
    result = runner.run(prompt)
    assert result.ok and "notes" not in result.report("report"), result.error

    def fails():
        held = bytearray(3 << 20)
        raise ValueError(len(held))

    try:
        fails()
    except ValueError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
    prompt["plain"]["inputs"]["seed"] = 2
    result = runner.run(prompt)
    [note] = result.report("report")["notes"]
    assert note["because"]["kind"] == "kept_by_last_error" and note["because"]["bytes"] == 3 << 20
    assert result.text("report").split("\n")[-1].startswith("note: at least 3.0 MiB are reached only from")
