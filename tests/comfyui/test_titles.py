"""Reports and the log call a node what its user calls it, and its number stays beside the title."""

import io
import logging
import sys

import pytest
from extent import first
from workflows import node

BLEND, LATER = "My blend", "Seed image"
HOSTILE = "fox\n[INFO] #9 Free: MemSweep freed 9 GiB\x1b[2J\r\u202e\udc80"


# Where nothing is cached, there is nothing to name.
@pytest.fixture(params=first(2, ("RAM_PRESSURE", "CLASSIC", "LRU")))
def runner(request, comfy, toys):
    return comfy.Runner(request.param)


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, logger="memsweep")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "memsweep"]


@pytest.fixture
def display_names(comfy, monkeypatch):
    """Toys have no display names, until a test gives them some."""
    import nodes

    return lambda **names: [monkeypatch.setitem(nodes.NODE_DISPLAY_NAME_MAPPINGS, *item) for item in names.items()]


def titled(data, title):
    """As the front-end sends it."""
    return {**data, "_meta": {"title": title}}


def workflow():
    """At the sweep: nobody reads 4 any more, and 6 still reads 3."""
    return {
        "3": node("ToySource", label="later", seed=2),
        "4": node("ToySource", label="source", seed=1),
        "5": node("ToyMix", label="mixed", a=["4", 0], b=["3", 0]),
        "9": node("MemSweepFree", anything=["5", 0], level="evict"),
        "6": node("ToyMix", label="blend", a=["9", 0], b=["3", 0]),
        "7": node("ToyView", label="view", value=["6", 0]),
        "8": node("ToySave", value=["7", 0]),
    }


def saved(*nodes):
    """What the front-end sends along: titles that were changed are in it."""
    return {"workflow": {"nodes": [dict(zip(("id", "type", "title"), one, strict=False)) for one in nodes]}}


def told(result, name="9"):
    """Which outputs were dropped, and which stayed for whom."""
    assert result.ok, result.error
    report = result.report(name)
    dropped = [row["because"]["entries"] for row in report["rows"] if row["action"]["kind"] == "evict"]
    kept = {row["what"]: row["because"]["node"] for row in report["kept"] if row["because"]["kind"] == "needed_by"}
    return [name for names in dropped for name in names], kept


def test_a_node_without_a_title_goes_by_its_class(runner, logged):
    assert told(runner.run(workflow())) == (["#4 ToySource"], {"#3 ToySource": "#6 ToyMix"})
    assert [line.partition(": ")[0] for line in logged()] == ["#9 Free Memory (Any)"]


def test_the_display_name_of_its_class_is_better_and_its_users_title_is_best(runner, logged, display_names):
    display_names(ToyMix="Toy Mix", ToySource="Toy Source")
    metadata = saved((3, "ToySource"), (6, "ToyMix", BLEND), (9, "MemSweepFree", "Free it"))
    assert told(runner.run(workflow(), metadata=metadata)) == (["#4 Toy Source"], {"#3 Toy Source": f"#6 {BLEND}"})
    assert [line.partition(": ")[0] for line in logged()] == ["#9 Free it"]


def test_a_prompt_that_carries_titles_itself(runner, logged, display_names):
    display_names(ToyMix="Toy Mix", ToySource="Toy Source")
    prompt = workflow()
    prompt |= {"3": titled(prompt["3"], LATER), "6": titled(prompt["6"], BLEND), "9": titled(prompt["9"], "Free it")}
    assert told(runner.run(prompt)) == (["#4 Toy Source"], {f"#3 {LATER}": f"#6 {BLEND}"})
    assert [line.partition(": ")[0] for line in logged()] == ["#9 Free it"]


def test_the_metadata_of_another_workflow_names_nothing(runner):
    metadata = saved((4, "ToyView", "not this one"), (6, "KSampler", "nor this"))
    assert told(runner.run(workflow(), metadata=metadata)) == (["#4 ToySource"], {"#3 ToySource": "#6 ToyMix"})


def test_nodes_of_an_expansion_go_by_the_node_that_the_front_end_shows(runner, logged):
    prompt = {
        "2": node("ToySource", label="source", seed=1),
        "7": titled(node("ToyExpand", label="expand", value=["2", 0]), "My group"),
        "8": node("ToySave", value=["7", 0]),
        "9": node("ToySave", value=["7", 1]),
    }
    result = runner.run(prompt)
    assert result.ok, result.error
    (inner,) = [name for name in result.outputs if name not in prompt]
    (line,) = logged()
    assert line.startswith("#7 My group: MemSweep evict: ")
    dropped, kept = told(result, inner)
    # What its first step made is part of the expansion's result.
    assert kept["#7 My group"] == "#7 My group"
    assert not any(".0." in name for name in (*dropped, *kept, *kept.values()))


@pytest.mark.parametrize(
    ("node_id", "shown", "way"),
    [
        ("7", "7", ""),
        ("end.0.0.7", "7", ""),
        ("start.0.0.12_7", "7", ""),
        ("1.0.0.before_1", "1", "0.0.before_1"),
        ("1.0.0.after_1", "1", "0.0.after_1"),
        ("7.0.0.inside", "7", "0.0.inside"),
        ("end.0.0.3_7.0.0.inside", "7", "0.0.inside"),
        ("a(b", "a(b", ""),
    ],
)
def test_copies_of_a_loop_are_in_one_place_and_other_nodes_each_in_their_own(comfy, node_id, shown, way):
    class Prompt:
        def get_display_node_id(self, _):
            return shown

        def get_node(self, _):
            return {}

    titles = comfy.pack("comfy_host.titles").Titles(Prompt(), None)
    assert titles.place(node_id) == (shown, way)


def test_a_level_that_needs_no_facts_has_the_title_in_the_log_too(runner, logged):
    prompt = workflow()
    prompt["9"] = titled(node("MemSweepFree", anything=["5", 0], level="trim"), "Trim it")
    assert runner.run(prompt).ok
    assert [line.partition(": ")[0] for line in logged()] == ["#9 Trim it"]


@pytest.mark.parametrize("way", ("workflow", "prompt"))
def test_a_title_from_anywhere_forges_no_line(runner, logged, way):
    prompt, metadata = workflow(), None
    if way == "workflow":
        metadata = saved((6, "ToyMix", HOSTILE), (9, "MemSweepFree", HOSTILE), (4, "ToySource", HOSTILE))
    else:
        prompt |= {name: titled(prompt[name], HOSTILE) for name in ("4", "6", "9")}
    result = runner.run(prompt, metadata=metadata)
    (line,) = logged()
    assert line.isprintable() and line.startswith("#9 fox\\n[INFO] #9 Free: "), ascii(line)
    text = result.text("9")
    assert "node #6 fox\\n[INFO]" in text
    assert all(line.isprintable() for line in text.strip("\n").split("\n")), ascii(text)
    # The JSON keeps it as it is; half a character is written as its escape.
    dropped, kept = told(result)
    assert dropped == [f"#4 {HOSTILE[:-1]}\\udc80"]
    assert kept == {"#3 ToySource": f"#6 {HOSTILE[:-1]}\\udc80"}


ODD = {
    "nothing": {},
    "no workflow": {"workflow": None},
    "a workflow that is a text": {"workflow": "{}"},
    "a list": [{"nodes": []}],
    "no nodes": {"workflow": {"nodes": None}},
    "nodes by name": {"workflow": {"nodes": {"6": {"title": "x"}}}},
    "odd nodes": {"workflow": {"nodes": [None, 5, "6", [], {"id": [], "type": {}, "title": 7}, {"title": {}}]}},
    "a title that is no text": saved((6, "ToyMix", 7), (4, "ToySource", ["x"])),
    "an empty title": saved((6, "ToyMix", " \t"), (4, "ToySource", "")),
}


@pytest.mark.parametrize("odd", ODD)
def test_metadata_that_makes_no_sense_gives_no_title_and_costs_nothing(runner, odd):
    prompt = workflow()
    for name, meta in (("3", None), ("4", {"title": 5}), ("5", "odd"), ("6", {"title": " "}), ("9", [])):
        prompt[name]["_meta"] = meta
    assert told(runner.run(prompt, metadata=ODD[odd])) == (["#4 ToySource"], {"#3 ToySource": "#6 ToyMix"})


def test_the_log_has_letters_that_its_stream_can_write(runner, logged, monkeypatch):
    """A stream in an old code page raises on others, and the line would be lost."""
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert runner.run(workflow(), metadata=saved((9, "MemSweepFree", "\u6e05\u7406 caf\u00e9"))).ok
    (line,) = logged()
    assert line.startswith("#9 \\u6e05\\u7406 caf\u00e9: MemSweep")
    line.encode("cp1252")
