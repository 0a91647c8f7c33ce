"""Parking that goes wrong: a failed row or an early end, and nothing lost; a cancel passes."""

import pytest
import torch
from harness.executor import quiet

KEPT: dict[str, torch.Tensor] = {}


@pytest.fixture
def case(comfy, toys, faults):
    KEPT["idle"] = torch.full((40 * 2**20,), 6.0)
    made = faults.Case(comfy, toys)
    yield made
    made.mend()
    assert KEPT.pop("idle").unique().tolist() == [6.0]


def sweep(case, faults):
    """The fault workflow with a park in place of the evict. Returns the report's park row."""
    prompt = faults.workflow()
    prompt["sweep"]["inputs"]["level"] = "park"
    with quiet():
        report = case.same(prompt, case.runner).report("sweep")
    case.mend()
    case.next_prompts()
    return next(row for row in report["rows"] if row["action"]["kind"] == "park")


def test_without_a_fault_it_is_parked(case, faults):
    case.arm(lambda: None)
    row = sweep(case, faults)
    assert row["verdict"] == "confirmed"
    assert row["outcome"]["bytes"] >= 159 * 2**20


@pytest.mark.parametrize("error", ("an exception", "a stranger"))
@pytest.mark.parametrize("name", ("Parking", "the folder"))
def test_what_cannot_be_asked_is_a_failed_row(case, faults, name, error):
    import folder_paths
    from memsweep import hosting

    def broken(*_arguments):
        raise faults.Stranger if error == "a stranger" else OSError("no such place")

    place = (hosting, "Parking") if name == "Parking" else (folder_paths, "get_temp_directory")
    case.arm(lambda: case.patch.setattr(*place, broken))
    row = sweep(case, faults)
    assert row["verdict"] == "failed"
    assert row["outcome"]["error"]


@pytest.mark.parametrize("error", ("an exception", "a stranger"))
def test_a_front_end_that_cannot_be_reached_stops_nothing(case, faults, error):
    import comfy.utils

    def broken(*_arguments):
        raise faults.Stranger if error == "a stranger" else OSError("gone")

    case.arm(lambda: case.patch.setattr(comfy.utils, "ProgressBar", broken))
    assert sweep(case, faults)["outcome"]["bytes"] >= 159 * 2**20


def test_a_cancel_ends_the_prompt_between_two_batches(case, faults):
    import comfy.utils
    import nodes

    class Cancelling:
        def __init__(self, total):
            nodes.interrupt_processing()

        def update_absolute(self, done, total):
            pass

    case.arm(lambda: case.patch.setattr(comfy.utils, "ProgressBar", Cancelling))
    prompt = faults.workflow()
    prompt["sweep"]["inputs"]["level"] = "park"
    with quiet():
        result = case.runner.run(prompt)
    case.mend()
    assert not result.ok
    assert any(kind == "execution_interrupted" for kind, _ in result.messages)
    case.next_prompts()
