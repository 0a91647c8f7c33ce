"""Bad input, foreign executors, failing steps and cancels: nothing raises into a workflow."""

import copy
import gc
import inspect
import json
import subprocess
import sys

import pytest
from extent import first
from harness.executor import pack, quiet
from harness.reports import notes
from workflows import node

KINDS = {
    "MemSweepFree": ("anything", {"level": "evict"}),
    "CleanMemory_PurgePass": ("data", {"mode": "RAM"}),
    "CleanMemory_PurgeRAM": ("anything", {}),
    "CleanMemory_PurgeAll": ("anything", {}),
    "FreeMemoryImage": ("image", {"aggressive": True}),
}


@pytest.fixture
def classic(comfy, toys):
    return comfy.Runner("CLASSIC")


def swept_chain(**sweep):
    return {
        "source": node("ToySource", label="source", seed=1),
        "a": node("ToyStep", label="a", value=["source", 0]),
        "sweep": node("MemSweepFree", anything=["a", 0], level="evict", **sweep),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
        "b": node("ToyStep", label="b", value=["sweep", 0]),
        "save": node("ToySave", value=["b", 0]),
    }


def everything_said(report):
    """Every sentence of a report for people."""
    rows = [f"{row['what']} {row['reason']} {json.dumps(row['outcome'])}" for row in report["rows"]]
    kept = [f"{row['what']} {row['reason']}" for row in report["kept"]]
    return "\n".join([*notes(report), *rows, *kept])


@pytest.mark.parametrize("key", KINDS)
def test_none_is_passed_on_and_the_report_says_that_it_protected_nothing(runner, toys, key):
    name, inputs = KINDS[key]
    prompt = {"none": node("ToyValue", kind="none"), "sweep": node(key, **{name: ["none", 0]}, **inputs)}
    passes = key not in ("CleanMemory_PurgeRAM", "CleanMemory_PurgeAll")
    if passes:
        prompt["save"] = node("ToySave", value=["sweep", 0])
    result = runner.run(prompt)
    assert result.ok, result.error
    if passes:
        assert result.outputs["save"]["saved"] == ["None"]
    assert "none" in everything_said(result.report("sweep")).lower()


@pytest.mark.parametrize("key", KINDS)
def test_a_value_that_is_an_empty_list(runner, toys, key):
    name, inputs = KINDS[key]
    prompt = {"empty": node("ToyValue", kind="list"), "sweep": node(key, **{name: ["empty", 0]}, **inputs)}
    passes = key not in ("CleanMemory_PurgeRAM", "CleanMemory_PurgeAll")
    if passes:
        prompt["save"] = node("ToySave", value=["sweep", 0])
    result = runner.run(prompt)
    assert result.ok, result.error
    if passes:
        assert result.outputs["save"]["saved"] == ["[]"]
    assert result.report("sweep")["schema"] == 2


@pytest.mark.parametrize("key", KINDS)
def test_an_output_list_without_items(runner, toys, key):
    """A node such as a filter may give no item at all: without our node the prompt works."""
    name, inputs = KINDS[key]
    prompt = {"empty": node("ToyEmptyList"), "sweep": node(key, **{name: ["empty", 0]}, **inputs)}
    out = "empty" if key in ("CleanMemory_PurgeRAM", "CleanMemory_PurgeAll") else "sweep"
    result = runner.run({**prompt, "end": node("ToySaveList", values=[out, 0])})
    assert result.ok, result.error
    assert result.outputs["end"]["saved"] == []


@pytest.mark.parametrize("key", KINDS)
def test_an_object_that_refuses_attribute_access(runner, toys, key):
    name, inputs = KINDS[key]
    prompt = {
        "refuser": node("ToyRefuser"),
        "hold": node("ToyHold", kind="nested", value=["refuser", 0]),
        "direct": node(key, **{name: ["refuser", 0]}, **inputs),
        "nested": node(key, **{name: ["hold", 0]}, **inputs),
        "end": node("ToyCheck", name="end", value=["refuser", 0], also=["hold", 0]),
    }
    if name != "anything" or key == "MemSweepFree":
        prompt["out"] = node("ToyCheck", name="out", value=["direct", 0], also=["nested", 0])
    result = runner.run(prompt)
    assert result.ok, result.error
    assert result.report("direct")["schema"] == result.report("nested")["schema"] == 2


def test_an_executor_of_another_pack_is_not_recognised_so_nothing_is_evicted(runner, toys, monkeypatch):
    """Another pack's `execute`: other name, other file, other names of its locals."""
    import execution

    text = inspect.getsource(execution.execute)
    text = text.replace("async def execute(", "async def run_one_node(").replace("execution_list", "work")
    scope = vars(execution)
    exec(compile(text, "/somewhere/other_pack.py", "exec"), scope)
    foreign = scope.pop("run_one_node")
    # The frame's code is then not `execution.execute.__code__` either.
    async def execute(*arguments):
        return await foreign(*arguments)

    monkeypatch.setattr(execution, "execute", execute)
    result = runner.run(swept_chain())
    assert result.ok, result.error
    assert_refused(runner, toys, result)


def test_a_dynprompt_that_is_not_the_executors_own_means_no_eviction(runner, toys, monkeypatch):
    import execution

    original = execution.get_input_data

    def get_input_data(*arguments, **named):
        found, *rest = original(*arguments, **named)
        for name, values in found.items():
            if isinstance(values[0], execution.DynamicPrompt):
                found[name] = [copy.copy(values[0])]
        return (found, *rest)

    monkeypatch.setattr(execution, "get_input_data", get_input_data)
    result = runner.run(swept_chain())
    assert result.ok, result.error
    assert_refused(runner, toys, result)


def assert_refused(runner, toys, result):
    report = result.report("sweep")
    assert not [row for row in report["rows"] if row["action"]["kind"] == "evict"]
    if runner.cache != "NONE":
        assert toys.SEEN_ALIVE["right after"] == {"source", "a"}
    assert "executor" in everything_said(report).lower()
    # It went on with the rest of the ladder.
    assert any(row["action"]["kind"] == "collect" for row in report["rows"])


def test_a_wrapped_but_genuine_executor_still_works(runner, toys, monkeypatch):
    """Packs that wrap `execution.execute` are common; the original's frame is still there."""
    import execution

    original = execution.execute

    async def execute(*arguments, **named):
        return await original(*arguments, **named)

    monkeypatch.setattr(execution, "execute", execute)
    result = runner.run(swept_chain())
    assert result.ok, result.error
    # Either recognised, or refused with a note that says so: never half of each.
    if toys.SEEN_ALIVE["right after"] != {"a"}:
        assert_refused(runner, toys, result)


def test_a_step_that_fails_is_a_row_and_not_an_exception(runner, toys, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("the collector is out of order")

    prompt = swept_chain()
    prompt["arm"] = node("ToyArm", name="break", value=["a", 0])
    prompt["sweep"]["inputs"]["anything"] = ["arm", 0]
    toys.ARMED["break"] = lambda: monkeypatch.setattr(gc, "collect", broken)
    result = runner.run(prompt)
    monkeypatch.undo()
    assert result.ok, result.error
    failed = [row for row in result.report("sweep")["rows"] if row["outcome"]["kind"] == "failed"]
    assert [row["action"]["kind"] for row in failed] == ["collect"] * len(failed)
    assert failed and "out of order" in failed[0]["outcome"]["error"]
    assert failed[0]["measured"]["process_anonymous"] is None or failed[0]["verdict"] != "freed"


def test_a_cancel_raised_inside_a_step_passes_through(runner, toys, monkeypatch):
    import comfy.model_management as management

    def cancelled(*_arguments):
        raise management.InterruptProcessingException

    check_cancel(runner, toys, lambda: monkeypatch.setattr(gc, "collect", cancelled), monkeypatch.undo)


def test_a_cancel_raised_while_facts_are_gathered_passes_through(runner, toys, monkeypatch):
    """In older versions a cancel is an `Exception`, and what cannot be read is one too."""
    import comfy.model_management as management

    def cancelled(self):
        raise management.InterruptProcessingException

    run = pack("comfy_host.executor").Run
    check_cancel(runner, toys, lambda: monkeypatch.setattr(run, "describe", cancelled), monkeypatch.undo)


def test_a_cancel_that_arrives_during_a_sweep_cancels_the_prompt(runner, toys):
    import nodes

    def on_collect(phase, info):
        if phase == "start" and info["generation"] == 2:
            nodes.interrupt_processing()

    def disarm():
        gc.callbacks.remove(on_collect)
        nodes.interrupt_processing(False)

    check_cancel(runner, toys, lambda: gc.callbacks.append(on_collect), disarm)


def check_cancel(runner, toys, arm, disarm):
    prompt = swept_chain()
    prompt["arm"] = node("ToyArm", name="cancel", value=["a", 0])
    prompt["sweep"]["inputs"]["anything"] = ["arm", 0]
    toys.ARMED["cancel"] = lambda: None
    expected = runner.run(prompt).saved()
    runner.reset()

    toys.ARMED["cancel"] = arm
    with quiet():
        result = runner.run(prompt)
    disarm()
    assert not result.ok
    assert result.interrupted, result.error
    assert "right after" not in toys.SEEN_ALIVE or toys.RUNS["b"] == 1, "the prompt went on after the cancel"
    runner.check_side_tables()

    # Nothing half done: the very next prompts are right.
    toys.ARMED["cancel"] = lambda: None
    for _ in range(2):
        again = runner.run(prompt)
        assert again.ok, again.error
        assert again.saved() == expected
        runner.check_side_tables()


PANIC = """
class Panic(BaseException):
    pass
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "memsweep":
            raise Panic("as PyO3 passes a panic on")
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("missing", first(1, ("memsweep._memsweep", "memsweep", "a module that panics")))
def test_without_the_native_module_data_passes_and_the_report_names_the_fix(missing):
    """In a process of its own: the pack is imported without what it needs."""
    program = f"""
import json, sys
{PANIC if "panics" in missing else f"sys.modules[{missing!r}] = None"}
from harness import executor
from harness.reports import notes
executor.boot()
loaded = executor.load_pack()
from workflows import node
answer = {{"loaded": loaded, "runs": []}}
for key, name, inputs in (
    ("MemSweepFree", "anything", {{"level": "evict"}}),
    ("CleanMemory_PurgePass", "data", {{"mode": "RAM"}}),
    ("FreeMemoryImage", "image", {{"aggressive": True}}),
):
    result = executor.Runner("CLASSIC").run({{
        "source": node("ToySource", label="s", seed=1),
        "sweep": node(key, **{{name: ["source", 0]}}, **inputs),
        "plain": node("ToySave", value=["source", 0]),
        "save": node("ToySave", value=["sweep", 0]),
    }})
    answer["runs"].append([result.ok, result.error, result.outputs])
result = executor.Runner("CLASSIC").run({{
    "source": node("ToySource", label="s", seed=1),
    "sweep": node("CleanMemory_PurgeAll", anything=["source", 0]),
}})
answer["runs"].append([result.ok, result.error, result.outputs])
print("ANSWER " + json.dumps(answer))
"""
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=240
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stderr[-3000:]
    answer = json.loads(lines[0].removeprefix("ANSWER "))
    assert answer["loaded"]
    for ok, error, outputs in answer["runs"]:
        assert ok, error
        if "save" in outputs:
            assert outputs["save"] == outputs["plain"]
        assert "pip install" in json.dumps(outputs["sweep"])
