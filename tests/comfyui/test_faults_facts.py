"""Facts that cannot be gathered: no memory for the walk, a frame that is not the executor's. Then nothing is
dropped, the report says why, and what needs no facts is done."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest
from extent import thorough
from harness.executor import pack
from harness.reports import notes
from workflows import node


@pytest.fixture
def case(comfy, toys, faults):
    made = faults.Case(comfy, toys)
    made.calls.append("armed")
    yield made
    made.mend()


# -- the walk


def unsayable():
    class Unsayable(Exception):
        def __str__(self):
            raise RuntimeError("no message for you")

        __repr__ = __str__

    return Unsayable()


@pytest.mark.parametrize("error", (MemoryError, RuntimeError, unsayable, "a stranger"))
@pytest.mark.parametrize("name", ("reach_many", "mapped_files", "Storages"))
def test_facts_that_cannot_be_had_leave_everything_as_before(case, faults, name, error):
    from memsweep import hosting

    def broken(*_arguments):
        raise faults.Stranger if error == "a stranger" else error()

    case.arm(lambda: case.patch.setattr(hosting, name, broken))
    report = case.run()
    faults.check_refused(case, report, "it could not be determined what is in use")
    assert case.unloaded == 0
    if error is MemoryError:
        assert "MemoryError" in notes(report)[-1]


def test_release_model_without_facts_releases_nothing_else(case, faults):
    from memsweep import hosting

    def starved(*_arguments):
        raise MemoryError

    case.arm(lambda: case.patch.setattr(hosting, "reach_many", starved))
    prompt = faults.workflow()
    prompt["sweep"] = node("MemSweepReleaseModel", anything=["arm", 0], model=["model", 0])
    report = case.same(prompt, case.runner).report("sweep")
    faults.check_refused(case, report, "MemoryError")
    assert case.unloaded == 0
    case.next_prompts()


@pytest.mark.parametrize("name", ("sweep_with", "policy_of", "TorchHost"))
@pytest.mark.parametrize("error", (MemoryError, unsayable, "a stranger"))
def test_a_sweep_that_cannot_even_begin_passes_the_data_on_and_says_so(case, faults, name, error):
    from memsweep import hosting

    def broken(*_arguments):
        raise faults.Stranger if error == "a stranger" else error()

    case.arm(lambda: case.patch.setattr(hosting, name, broken))
    assert case.run() is None
    assert case.gone == case.unloaded == 0


STARVED = """
import gc, json, resource
from harness import executor
executor.boot()
assert executor.load_pack()
from harness import faults, toys
from harness.reports import notes, unpacked
import nodes
nodes.NODE_CLASS_MAPPINGS.update(faults.FAULT_TOYS)
case = faults.Case(executor, toys)
# The walk must visit them all, with more notes than fit into what is left. In an object, because
# ComfyUI itself looks through bare lists.
toys.REMEMBERED["many"] = toys.Keyed([[[[]]] for _ in range(600_000)])
def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
def limit(spare):
    most = resource.RLIM_INFINITY if spare is None else address_space() + spare
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
nodes.NODE_CLASS_MAPPINGS["ToyMany"] = toys.toy()(lambda value: ((value, toys.REMEMBERED["many"]),))
nodes.NODE_CLASS_MAPPINGS["ToyFirst"] = toys.toy()(lambda value: (value[0],))
def workflow(**inputs):
    prompt = faults.workflow(**inputs)
    prompt["many"] = {"class_type": "ToyMany", "inputs": {"value": ["arm", 0]}}
    prompt["sweep"]["inputs"]["anything"] = ["many", 0]
    prompt["first"] = {"class_type": "ToyFirst", "inputs": {"value": ["mend", 0]}}
    prompt["c"]["inputs"]["value"] = ["first", 0]
    return prompt
case.same(workflow(arm="quiet"), case.runner)
# Out of the collector's way, which would take seconds for them at every step.
gc.collect()
gc.freeze()
answer = []
for spare in (0, 2 << 20, 1 << 30):
    case.arm(lambda: limit(spare))
    over = toys.ARMED["mend"]
    toys.ARMED["mend"] = lambda: (limit(None), over())
    result = case.same(workflow(seed=spare + 2), case.runner)
    shown = result.outputs["sweep"]["memsweep"][0]
    answer.append([spare, unpacked(shown), shown["text"], case.gone, case.unloaded])
case.next_prompts()
print("ANSWER " + json.dumps(answer))
"""


@thorough
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_walk_that_really_runs_out_of_memory():
    # Neither what one call gave back nor another thread's arena may serve the next call.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", STARVED], cwd=Path(__file__).parent, capture_output=True, text=True,
        timeout=240, env=environment, check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, f"{done.returncode}\n{done.stderr[-3000:]}"
    starved = 0
    for spare, report, text, gone, unloaded in json.loads(lines[0].removeprefix("ANSWER ")):
        if "MemoryError" in text:
            starved += 1
            assert (gone, unloaded) == (0, 0), spare
        else:
            assert gone >= 4, spare
            assert report["schema"] == 2
    # The smallest amount left was not enough, the largest was.
    assert 1 <= starved <= 2


# -- frames


def lookalike(**values):
    """A function that a foreign pack might have, around our node: same name, same file name."""
    names = "".join(f"    {name} = values[{name!r}]\n" for name in values)
    source = f"def execute(run, *arguments):\n{names}    return run(*arguments)\n"
    scope = {"values": values}
    exec(compile(source, "somewhere/other_pack/execution.py", "exec"), scope)
    return scope["execute"]


def execution_lists(dynprompt):
    """What a frame that is not the executor's may hold under the executor's names."""
    pending = {"sweep": True}
    return {
        "an object": (object(), "belongs to another prompt"),
        "a mock": (mock.MagicMock(), "belongs to another prompt"),
        "a mock of this prompt": (mock.MagicMock(dynprompt=dynprompt), "pending nodes are a MagicMock"),
        "other nodes": (mock.Mock(dynprompt=dynprompt, pendingNodes={"x": True}), "not pending"),
        "a mocked cache": (mock.Mock(dynprompt=dynprompt, pendingNodes=pending), "output cache is a Mock"),
        "no cache": (mock.Mock(dynprompt=dynprompt, pendingNodes=pending, output_cache=None), "is a NoneType"),
        "no attribute": (mock.Mock(spec=["dynprompt"], dynprompt=dynprompt), "pending nodes are a NoneType"),
    }


LISTS = ("an object", "a mock", "a mock of this prompt", "other nodes", "a mocked cache", "no cache", "no attribute")


@pytest.mark.parametrize("name", LISTS)
def test_a_frame_that_is_not_the_executors(case, faults, name):
    service = pack("service")
    run, said = service.run, []

    def fault():
        def other_pack(*arguments):
            fake, words = execution_lists(arguments[-1])[name]
            said.append(words)
            return lookalike(execution_list=fake, dynprompt=arguments[-1])(run, *arguments)

        case.patch.setattr(service, "run", other_pack)

    case.arm(fault)
    report = case.run()
    faults.check_refused(case, report, said[0])
    assert "executor was not recognised" in "\n".join(notes(report))


def test_a_frame_that_only_has_the_executors_name_is_passed_by(case, faults):
    service = pack("service")
    run = service.run
    case.arm(lambda: case.patch.setattr(service, "run", lambda *a: lookalike(caches=None)(run, *a)))
    case.run()
    assert case.gone == 5


def test_a_node_that_another_pack_runs_in_a_thread_of_its_own(case, faults):
    service = pack("service")
    run = service.run

    def in_a_thread(*arguments):
        answer = []
        thread = threading.Thread(target=lambda: answer.append(run(*arguments)))
        thread.start()
        thread.join()
        return answer[0]

    case.arm(lambda: case.patch.setattr(service, "run", in_a_thread))
    faults.check_refused(case, case.run(), "no frame of `execution.execute` is on the stack")
