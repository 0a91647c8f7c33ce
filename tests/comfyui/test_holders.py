"""What holds the rest, as a node reports it in a real executor."""

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
