"""Sweeps when a prompt has ended: of nodes that it did not reach, and after one that failed."""

import json
import logging
import threading

import pytest
from extent import first
from harness.reports import unpacked
from workflows import node

CACHING = ("RAM_PRESSURE", "CLASSIC", "LRU")
VARIABLE = "MEMSWEEP_AFTER_FAILURE"


@pytest.fixture(params=first(1, CACHING))
def runner(request, comfy, toys):
    return comfy.Runner(request.param)


@pytest.fixture
def at_end(comfy):
    return comfy.pack("at_end")


@pytest.fixture
def settings(comfy, tmp_path, monkeypatch):
    """Writes what ComfyUI's page would have saved."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))

    def write(content):
        (tmp_path / "default").mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "default/comfy.settings.json").write_text(text)

    return write


def unchanged(run="every queue", key="MemSweepFree", name="anything", **widgets):
    """source -> a -> sweep -> save: from the second time on, all of it comes from the cache."""
    widgets = widgets or {"level": "evict"}
    return {
        "source": node("ToySource", label="source", seed=1),
        "a": node("ToyStep", label="a", value=["source", 0]),
        "sweep": node(key, **{name: ["a", 0]}, run=run, **widgets),
        "save": node("ToySave", value=["sweep", 0]),
    }


def failing(**inputs):
    """source -> a -> fails; and what another branch made before stays in the cache."""
    return {
        "source": node("ToySource", label="source", seed=1),
        "a": node("ToyStep", label="a", value=["source", 0]),
        "fails": node("ToyFails", value=["a", 0], **inputs),
        "save": node("ToySave", value=["fails", 0]),
    }


@pytest.fixture(autouse=True)
def toy_that_fails(comfy, monkeypatch):
    import comfy.model_management as management
    import nodes
    import torch
    from harness.toys import toy

    @toy(optional=("how",))
    def ToyFails(value, how="error"):
        # What the error's traceback keeps.
        large = torch.ones(4 * 2**20)
        assert bool(large.any())
        if how == "cancel":
            raise management.InterruptProcessingException
        raise (torch.OutOfMemoryError("no memory") if how == "oom" else ValueError("broken"))

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyFails", ToyFails)


@pytest.mark.parametrize("name", ["level", "system_wide", "run"])
def test_a_linked_widget_is_not_known_at_the_end(runner, toys, at_end, caplog, monkeypatch, name):
    swept = []
    monkeypatch.setattr(at_end.service, "run_at_end", lambda *arguments: swept.append(arguments))
    given = {"level": "evict", "system_wide": False, "run": "every queue"}
    prompt = unchanged(**{**given, name: ["given", 0]})
    prompt["given"] = node("ToyList", label="given", value=["source", 0])
    queued = comfy_prompt(at_end, runner, prompt)
    with caplog.at_level(logging.WARNING, logger="memsweep"):
        assert list(at_end.unreached(queued)) == []
    assert [line for line in caplog.messages if f"set {name} in the node itself" in line]
    assert len(list(at_end.unreached(comfy_prompt(at_end, runner, unchanged(**given))))) == 1


def comfy_prompt(at_end, runner, nodes):
    return at_end.comfy_host.Prompt(runner.executor, (nodes,), {})


def test_what_a_node_showed_before_it_failed_stays(runner, monkeypatch, comfy):
    import nodes
    from comfy_execution.graph_utils import GraphBuilder
    from harness.toys import toy

    @toy(output=True)
    def ToyShowsAndFails(value):
        graph = GraphBuilder()
        fails = graph.node("ToyFails", value=value)
        return {"ui": {"images": ["shown"]}, "result": (fails.out(0),), "expand": graph.finalize()}

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyShowsAndFails", ToyShowsAndFails)
    monkeypatch.setenv(VARIABLE, "evict")
    prompt = {
        "source": node("ToySource", label="source", seed=1),
        "shows": node("ToyShowsAndFails", value=["source", 0]),
    }
    with comfy.quiet():
        result = runner.run(prompt)
    assert not result.ok
    shown = runner.executor.history_result["outputs"]
    assert any("memsweep" in output for output in shown.values())
    assert shown["shows"]["images"] == ["shown"]


def reports(runner):
    """What the history of the last prompt shows of us."""
    outputs = runner.executor.history_result["outputs"]
    return {name: unpacked(output["memsweep"][0]) for name, output in outputs.items() if "memsweep" in output}


@pytest.mark.parametrize(
    ("key", "name", "widgets"),
    [("MemSweepFree", "anything", {"level": "evict"}), ("CleanMemory_PurgePass", "data", {"mode": "RAM"})],
)
def test_a_node_behind_an_unchanged_input_sweeps_on_every_queue(runner, toys, key, name, widgets):
    prompt = unchanged(key=key, name=name, **widgets)
    assert runner.run(prompt).ok
    runs = dict(toys.RUNS)
    for _ in range(2):
        # What another workflow left.
        other = {"other": node("ToySource", label="other", seed=7), "end": node("ToySave", value=["other", 0])}
        result = runner.run({**prompt, **other})
        assert result.ok
        assert "sweep" in result.cached
        report = reports(runner)["sweep"]
        assert report["level"] in ("evict", "park")
        assert report["notes"][0]["because"] == {"kind": "not_reached"}
        assert [row for row in report["rows"] if row["action"]["kind"] == "collect"]
    del runs["a"], runs["source"]
    assert {label: count for label, count in toys.RUNS.items() if label in runs} == runs


def test_nothing_is_computed_for_it(runner, toys):
    prompt = unchanged()
    assert runner.run(prompt).ok
    before = toys.RUNS.copy()
    runner.server.executing.clear()
    assert runner.run(prompt).ok
    assert toys.RUNS == before
    assert runner.server.executing == []


def test_it_frees_what_the_cached_outputs_hold(runner, toys):
    prompt = unchanged()
    assert runner.run(prompt).ok
    assert "a" in toys.alive()
    assert runner.run(prompt).ok
    # What feeds the output node stays, and with it the tensor that our node passed on.
    assert toys.alive() == {"a"}
    runner.check_side_tables()
    before = runner.run(unchanged(run="when reached"))
    assert before.ok


def test_a_node_that_ran_does_not_sweep_again(runner):
    result = runner.run(unchanged())
    assert result.ok
    assert runner.server.sent.count("executed") == 2, "the sweep's and the output's"


def test_when_reached_means_only_then(runner):
    prompt = unchanged(run="when reached")
    assert runner.run(prompt).ok
    runner.server.sent.clear()
    assert runner.run(prompt).ok
    shown = reports(runner).get("sweep")
    assert shown is None or runner.server.sent.count("executed") <= 2


def test_a_node_that_an_error_kept_from_running_sweeps(runner, toys):
    prompt = failing()
    prompt["sweep"] = node("MemSweepFree", anything=["fails", 0], level="evict", run="every queue")
    prompt["save"]["inputs"]["value"] = ["sweep", 0]
    assert not runner.run(prompt).ok
    assert reports(runner)["sweep"]["level"] == "evict"
    assert toys.alive() == set()


@pytest.mark.parametrize("how", ["error", "oom", "cancel"])
def test_after_a_failure_memory_goes_where_somebody_asked_for_it(runner, toys, monkeypatch, settings, how):
    import gc

    assert not runner.run(failing(how=how)).ok
    assert toys.alive() == {"source", "a"}
    assert reports(runner) == {}

    monkeypatch.setenv(VARIABLE, "evict")
    result = runner.run(failing(how=how))
    assert not result.ok
    assert result.interrupted == (how == "cancel")
    assert toys.alive() == set()
    large = [one for one in gc.get_objects() if getattr(one, "nbytes", 0) == 16 * 2**20]
    assert not large, "the traceback's tensors are still there"
    assert list(reports(runner)) == ["fails"]
    note = {"kind": "after_failure", "cancelled": how == "cancel"}
    assert reports(runner)["fails"]["notes"][0]["because"] == note
    runner.check_side_tables()


def test_a_failure_stays_one(runner, monkeypatch):
    monkeypatch.setenv(VARIABLE, "evict")
    result = runner.run(failing())
    assert not result.ok and result.error.startswith("fails: ValueError")
    assert not any(kind == "execution_success" for kind, _ in result.messages)
    assert runner.executor.success is False


def test_a_prompt_that_succeeds_is_not_swept(runner, toys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "evict")
    prompt = failing()
    prompt["save"]["inputs"]["value"] = ["a", 0]
    del prompt["fails"]
    assert runner.run(prompt).ok
    assert toys.alive() == {"source", "a"}
    assert reports(runner) == {}


def test_the_report_is_on_a_node_of_ours_where_there_is_one(runner, monkeypatch):
    monkeypatch.setenv(VARIABLE, "collect")
    prompt = failing()
    prompt["ours"] = node("MemSweepFree", anything=["fails", 0], level="trim")
    prompt["save"]["inputs"]["value"] = ["ours", 0]
    assert not runner.run(prompt).ok
    assert list(reports(runner)) == ["ours"]
    assert reports(runner)["ours"]["level"] == "collect"


def test_the_page_decides_before_the_environment(comfy, at_end, settings, monkeypatch):
    assert at_end.after_failure() == "off"
    monkeypatch.setenv(VARIABLE, " Park ")
    assert at_end.after_failure() == "park"
    settings({"MemSweep.AfterFailure": "off", "Comfy.Other": 1})
    assert at_end.after_failure() == "off"
    settings({"MemSweep.AfterFailure": "unload"})
    assert at_end.after_failure() == "unload"
    settings({"Comfy.Other": 1})
    assert at_end.after_failure() == "park"


@pytest.mark.parametrize("value", ["everything", 7, ["evict"], {"a": 1}, True])
def test_a_wrong_setting_sweeps_nothing_and_is_told(at_end, settings, caplog, value):
    settings({"MemSweep.AfterFailure": value})
    with caplog.at_level(logging.WARNING):
        assert at_end.after_failure() == "off"
    assert "it can be off, trim, collect, unload, evict, park" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", "null", "\x00"])
def test_a_broken_file_of_settings_is_told_and_the_environment_counts(at_end, settings, monkeypatch, text):
    monkeypatch.setenv(VARIABLE, "trim")
    settings(text)
    assert at_end.after_failure() == "trim"


def test_whatever_goes_wrong_there_the_prompt_is_as_it_was(comfy, runner, at_end, monkeypatch):
    service = comfy.pack("service")
    assert runner.run(unchanged()).ok
    for fault in (RuntimeError("x"), SystemError("y"), comfy_interrupt(), BaseException("z")):
        def broken(*_args, fault=fault, **_named):
            raise fault

        for module, name in ((service, "_sweep"), (service.comfy_host, "ComfyHost"), (at_end, "ended"),
                             (at_end, "unreached"), (service.library, "hosting")):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, broken)
                result = runner.run(unchanged())
                assert result.ok and "sweep" in result.cached, (name, fault)
    assert runner.run(unchanged()).ok
    assert reports(runner)["sweep"]


def comfy_interrupt():
    import comfy.model_management as management

    return management.InterruptProcessingException()


def test_a_prompt_inside_a_node_has_an_end_of_its_own(comfy, runner, toys, monkeypatch):
    """A node of ours in the inner prompt is not taken for one of the outer."""
    import asyncio

    import nodes
    from harness.toys import toy

    inner = comfy.Runner("CLASSIC")
    assert inner.run(unchanged()).ok

    @toy()
    def ToyInside(value):
        outer = asyncio.events._get_running_loop()
        asyncio.events._set_running_loop(None)
        try:
            assert inner.run(unchanged()).ok
        finally:
            asyncio.events._set_running_loop(outer)
        return (value,)

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyInside", ToyInside)
    prompt = {
        "source": node("ToySource", label="outer", seed=2),
        "inside": node("ToyInside", value=["source", 0]),
        "ours": node("MemSweepFree", anything=["inside", 0], level="trim", run="every queue"),
        "save": node("ToySave", value=["ours", 0]),
    }
    assert runner.run(prompt).ok
    assert list(reports(runner)) == ["ours"]
    assert list(reports(inner)) == ["sweep"]


class StandIn:
    """What another pack may have put in a function's place."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments, **named):
        return self.function(*arguments, **named)


@pytest.mark.parametrize("name", ["execution.PromptExecutor.execute", None])
def test_the_log_says_once_that_the_hook_cannot_be_set(comfy, monkeypatch, caplog, name):
    import contextlib

    import execution
    from comfy_execution.graph import ExecutionList
    from harness import broken

    places = ((execution.PromptExecutor, "execute"), (ExecutionList, "complete_node_execution"))
    for owner, attribute in places:
        monkeypatch.setattr(owner, attribute, vars(owner)[attribute].__wrapped__)
    if name is None:
        monkeypatch.setattr(ExecutionList, "complete_node_execution", StandIn(ExecutionList.complete_node_execution))
    before = [vars(owner)[attribute] for owner, attribute in places]
    breaking = contextlib.nullcontext() if name is None else broken.broken([name])
    with breaking, caplog.at_level(logging.WARNING, logger="memsweep"):
        comfy.pack("comfy_host.assumptions").missing()
        comfy.pack("comfy_host.hook").install(lambda prompt: None)
    assert [vars(owner)[attribute] for owner, attribute in places] == before
    [line] = caplog.messages
    assert "no sweep runs when a prompt has ended" in line
    assert (name or "ExecutionList.complete_node_execution") in line


def test_the_hook_is_set_once_and_passes_what_it_is_given(comfy):
    import execution

    hook = comfy.pack("comfy_host.hook")
    before = execution.PromptExecutor.execute
    hook.install(lambda prompt: None)
    assert execution.PromptExecutor.execute is before
    assert before.__wrapped__.__code__.co_filename.endswith("execution.py")


def test_a_prompt_on_another_thread_is_not_ours(comfy, toys):
    hook = comfy.pack("comfy_host.hook")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(hook.current()))
    thread.start()
    thread.join()
    assert seen == [None]
