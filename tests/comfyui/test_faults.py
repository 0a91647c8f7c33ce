"""Every kind of step failing, raising, hanging and lying: what is dropped is dropped whole, what
stays is whole, results are the same, and the report says what happened.

`trim_heap` cannot be made to fail from here; what it reads and the steps that open files can.
Models have a file of their own, and so have the facts a sweep starts from.
"""

import resource

import pytest
from harness.executor import pack, quiet

TORCH_STEPS = ("empty_device_cache", "empty_host_cache")
TABLES = (
    ("CLASSIC", "cache"), ("LRU", "cache"), ("LRU", "used_generation"),
    ("RAM_PRESSURE", "cache"), ("RAM_PRESSURE", "used_generation"), ("RAM_PRESSURE", "timestamps"),
)


@pytest.mark.parametrize("way", ("raises", "raises afterwards", "raises no Exception", "hangs", "lies"))
@pytest.mark.parametrize("kind", ("collect", *TORCH_STEPS))
def test_a_step_of_torch_or_python_that_goes_wrong(case, faults, kind, way):
    faults.arm_step(case, kind, way)
    report = case.run()
    for row in faults.rows(report, kind):
        if row["outcome"]["kind"] == "skipped":
            continue
        if way.startswith("raises"):
            assert (row["outcome"]["kind"], row["verdict"]) == ("failed", "failed")
            assert "out of order" in row["outcome"]["error"]
        elif way == "lies":
            assert row["outcome"]["kind"] == "done"
            assert row["verdict"] in ("nothing_seen", "unmeasured")
        else:
            assert row["outcome"]["kind"] in ("done", "nothing_to_do")
    faults.check_went_on(report)


@pytest.mark.parametrize("answer", ("failed", "a number too large", "no JSON", "an unknown kind", "None"))
@pytest.mark.parametrize("kind", ("collect", *TORCH_STEPS))
def test_a_step_that_answers_nonsense(case, faults, kind, answer):
    from memsweep import hosting

    original = hosting.TorchHost.carry_out

    def carry_out(self, request):
        if request["kind"] != kind:
            return original(self, request)
        case.calls.append(kind)
        return {
            "failed": {"kind": "failed", "error": "out of order"},
            "a number too large": {"kind": "done", "claimed": 10**12, "detail": None},
            "no JSON": {"kind": "done", "detail": object()},
            "an unknown kind": {"kind": "perhaps"},
            "None": None,
        }[answer]

    case.arm(lambda: case.patch.setattr(hosting.TorchHost, "carry_out", carry_out))
    report = case.run()
    for row in faults.rows(report, kind):
        lies = answer == "a number too large"
        assert row["verdict"] in (("claim_not_seen", "unmeasured", "not_run") if lies else ("failed",))
    faults.check_went_on(report)


@pytest.mark.parametrize("earlier", (False, True), ids=("new", "cached at the start"))
@pytest.mark.parametrize("way", ("raises", "raises afterwards", "raises no Exception", "lies", "hangs"))
@pytest.mark.parametrize(("cache", "table"), TABLES)
def test_a_cache_or_side_table_that_goes_wrong(comfy, toys, faults, cache, table, way, earlier):
    case = faults.Case(comfy, toys, cache, earlier)
    outputs = case.runner.executor.caches.outputs
    case.arm(lambda: setattr(outputs, table, faults.broken_table(getattr(outputs, table), way, case.calls)))
    report = case.run()
    (row,) = faults.rows(report, "evict")
    if way == "hangs":
        assert (row["outcome"]["kind"], case.gone) == ("done", len(row["action"]["entries"]))
    else:
        assert (row["outcome"]["kind"], row["verdict"], case.gone) == ("failed", "failed", 0)
    faults.check_went_on(report)


@pytest.mark.parametrize(("cache", "table"), TABLES)
def test_an_entry_that_cannot_be_dropped_stays_and_the_others_go(comfy, toys, faults, cache, table):
    case = faults.Case(comfy, toys, cache, earlier=True)
    outputs = case.runner.executor.caches.outputs
    broken = lambda: faults.broken_table(getattr(outputs, table), "raises", case.calls, only=2)  # noqa: E731
    case.arm(lambda: setattr(outputs, table, broken()))
    report = case.run()
    (row,) = faults.rows(report, "evict")
    assert row["outcome"]["kind"] == "done"
    assert case.gone == len(row["action"]["entries"]) - 1 >= 4
    assert row["outcome"]["detail"].startswith(f"{case.gone} entries; 1 ") and "out of order" in row["outcome"]["detail"]


STEPS = ("evict", "collect", "unload", "empty_device_cache", "empty_host_cache")


def arm_and_note(case, faults, kind, way):
    """Arms a fault, and notes the steps that Python was asked for."""
    host = pack("comfy_host").ComfyHost
    original, asked = host.release, []
    if kind == "evict":
        outputs = case.runner.executor.caches.outputs
        case.arm(lambda: setattr(outputs, "cache", faults.broken_table(outputs.cache, way, case.calls)))
    else:
        faults.arm_step(case, kind, way)

    def release(self, action):
        asked.append(action)
        return original(self, action)

    case.patch.setattr(host, "release", release)
    return asked


@pytest.mark.parametrize("way", ("cancels", "hangs while the user cancels"))
@pytest.mark.parametrize("kind", STEPS)
def test_a_cancel_passes_as_soon_as_the_step_under_way_returns(
    comfy, toys, faults, kind, way, monkeypatch
):
    import nodes

    case = faults.Case(comfy, toys, "RAM_PRESSURE", earlier=True)
    logged = []
    monkeypatch.setattr(pack("service").LOG, "info", lambda text, *values: logged.append(text % values))
    asked = arm_and_note(case, faults, kind, way)
    with quiet():
        result = case.runner.run(faults.workflow())
    case.mend()
    nodes.interrupt_processing(False)
    assert case.calls and result.interrupted and not result.ok
    (line,) = logged
    assert line.startswith("#sweep Free Memory (Any): MemSweep evict: private RAM ") and "; cancelled; " in line
    case.before.check_whole()
    assert kind in asked[-1], f"a step began after the cancel: {asked}"
    case.next_prompts()


@pytest.mark.parametrize("stop", (KeyboardInterrupt, SystemExit))
@pytest.mark.parametrize("kind", ("evict", "collect", "unload"))
def test_the_end_of_the_program_passes_too(comfy, toys, faults, kind, stop, monkeypatch):
    case = faults.Case(comfy, toys, "RAM_PRESSURE", earlier=True)
    monkeypatch.setattr(faults, "Stranger", stop)
    arm_and_note(case, faults, kind, "raises no Exception")
    with quiet(), pytest.raises(stop):
        case.runner.run(faults.workflow())
    case.mend()
    assert case.calls
    case.before.check_whole()
    case.next_prompts()


def test_a_process_that_may_open_no_more_files(case, faults, tmp_path):
    """No reading of the process, no page cache of files or of the machine: unknown, never 0."""
    from memsweep import hosting

    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x" * 2**20)
    files = [str(file), str(tmp_path), str(tmp_path / "missing")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sweep_with = hosting.sweep_with

    def starved(*arguments):
        case.calls.append("no file")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            return sweep_with(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    case.arm(lambda: (
        case.patch.setattr(pack("comfy_host.files"), "mapped", lambda _: files),
        case.patch.setattr(hosting, "sweep_with", starved),
    ))
    # Only here: without files the switch cannot touch the machine that runs the tests.
    report = case.run(system_wide=True)
    assert report["before"]["process"]["resident"] is None
    assert report["freed"]["process_anonymous"] is None
    for kind, outcome in (("drop_file_cache", "failed"), ("system_wide", "unsupported")):
        (row,) = faults.rows(report, kind)
        assert row["outcome"]["kind"] == outcome, row
    (heap,) = faults.rows(report, "trim_heap")
    assert (heap["outcome"]["kind"], heap["verdict"]) in (("done", "unmeasured"), ("nothing_to_do", "not_run"))
