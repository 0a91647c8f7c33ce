"""An unload that goes wrong anywhere inside ComfyUI: the model is on ComfyUI's list and gives the same
result as ever, or it is off the list; the report says which."""

import pytest
from harness.executor import executor_locals


def unload_points():
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher
    from harness.toys import ToyNetwork

    return {
        "free_memory": (management, []),
        "cleanup_models_gc": (management, None),
        "get_free_memory": (management, 0),
        "model_unload": (management.LoadedModel, True),
        "detach": (ModelPatcher, None),
        "unpatch_model": (ModelPatcher, None),
        "to": (ToyNetwork, None),
        "soft_empty_cache": (management, None),
    }


@pytest.mark.parametrize("way", ("raises", "raises afterwards", "raises no Exception", "hangs"))
@pytest.mark.parametrize("name", (
    "free_memory", "cleanup_models_gc", "get_free_memory", "model_unload", "detach", "unpatch_model", "to",
    "soft_empty_cache",
))
def test_an_unload_that_goes_wrong_somewhere_inside_comfyui(case, faults, name, way):
    owner, answer = unload_points()[name]
    case.arm(lambda: case.patch.setattr(
        owner, name, faults.wrong(way, getattr(owner, name), answer, case.calls), raising=False
    ))
    report = case.run()
    outcomes = [row["outcome"] for row in faults.rows(report, "unload")]
    # `done` exactly for what left ComfyUI's list, and both cases say what went wrong.
    assert [outcome["kind"] for outcome in outcomes].count("done") == case.unloaded
    for outcome in outcomes:
        told = outcome.get("error") or outcome.get("detail") or ""
        assert ("out of order" in told) == (way != "hangs"), outcome
    faults.check_went_on(report)


def test_an_unload_that_says_it_worked_and_did_nothing(case, faults):
    faults.arm_step(case, "unload", "lies")
    report = case.run()
    assert {row["outcome"]["kind"] for row in faults.rows(report, "unload")} == {"failed"}
    assert case.unloaded == 0


@pytest.mark.parametrize("name", ("set_in_use", "free_memory"))
@pytest.mark.parametrize("way", ("raises", "lies"))
def test_newer_versions_list_of_models_in_use_agrees_with_the_models(case, faults, name, way):
    """A paged model that could not be unloaded is still in use; one that was, is not."""
    import comfy.model_management as management

    class Paged:
        """What the list holds for a model; remembers what it was told."""

        def __init__(self, model):
            self.model, self.in_use, self.told = model, True, 0

        def set_in_use_by_current_prompt(self, in_use):
            self.told += 1
            if name == "set_in_use" and self.told == 1:
                faults.wrong(way, lambda: None, None, case.calls)()
            else:
                self.in_use = in_use

    tracked = {}

    def fault():
        callback = getattr(executor_locals()["execution_list"], "output_link_callback", None)
        if callback is None:
            pytest.skip("this version has no such list")
        tracked["list"] = callback.__self__.models
        for loaded in management.current_loaded_models:
            tracked[loaded.model] = tracked["list"][id(loaded)] = Paged(loaded.model.model)
        if name == "free_memory":
            case.patch.setattr(management, "free_memory", faults.wrong(way, None, [], case.calls))

    case.arm(fault)
    over = case.toys.ARMED["mend"]

    def check():
        over()
        held = tracked.pop("list")
        listed = [loaded.model for loaded in management.current_loaded_models]
        for patcher, paged in tracked.items():
            is_held = any(value is paged for value in held.values())
            if patcher in listed:
                assert is_held and paged.in_use
            elif way != "lies":
                assert is_held == paged.in_use
        tracked.clear()

    case.toys.ARMED["mend"] = check
    report = case.run()
    kinds = [row["outcome"]["kind"] for row in faults.rows(report, "unload")]
    assert kinds.count("done") == case.unloaded
    assert (case.unloaded == 0) == (name == "free_memory")
