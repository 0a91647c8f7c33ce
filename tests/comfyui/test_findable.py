"""What feeds an output node stays for a later prompt, unless none can find it."""

import pytest
from workflows import node


def prompt(kind, swept=True):
    """ComfyUI runs an output node as soon as it can: save is done before late begins."""
    nodes = {
        "changed": node("ToyChanged", label="changed", kind=kind),
        "b": node("ToyStep", label="b", value=["changed", 0]),
        "save": node("ToySave", value=["b", 0]),
        "late": node("ToyStep", label="late", value=["b", 0]),
        "sweep": node("MemSweepFree", anything=["late", 0], level="evict"),
        "check": node("ToyCheck", name="right after", value=["sweep", 0]),
    }
    if not swept:
        del nodes["sweep"]
        nodes["check"]["inputs"]["value"] = ["late", 0]
    return nodes


@pytest.fixture(params=("RAM_PRESSURE", "CLASSIC", "LRU"))
def runner(request, comfy, toys):
    return comfy.Runner(request.param)


@pytest.mark.parametrize("kind", ["a new one", "raises"])
def test_behind_a_new_nan_it_goes(runner, toys, kind):
    # The second finds the first one's entries in the cache.
    for _ in range(2):
        result = runner.run(prompt(kind))
        assert result.ok, result.error
        assert toys.SEEN_ALIVE["right after"] == {"late"}
    runner.check_side_tables()


@pytest.mark.parametrize("kind", ["a new one", "raises"])
def test_without_us_no_later_prompt_finds_it(runner, toys, kind):
    assert runner.run(prompt(kind, swept=False)).ok
    result = runner.run(prompt(kind, swept=False))
    assert result.ok and "b" not in result.cached
    assert toys.RUNS["b"] == 2


@pytest.mark.parametrize("kind", ["math's", "numpy's", "its own", "in its own tuple", "numpy's kind", "the same"])
def test_behind_one_that_somebody_holds_it_stays(runner, toys, kind):
    assert runner.run(prompt(kind)).ok
    assert "b" in toys.SEEN_ALIVE["right after"]
    again = runner.run(prompt(kind))
    assert again.ok
    # One that numpy makes anew is not found, and kept for want of knowing it.
    assert ("b" in again.cached) is (kind != "numpy's kind")


def test_whoever_keeps_the_answer_keeps_the_output(comfy, toys, monkeypatch):
    kept = []
    real = toys.ToyChanged.IS_CHANGED

    def is_changed(**given):
        kept.append(real(**given))
        return kept[0]

    monkeypatch.setattr(toys.ToyChanged, "IS_CHANGED", staticmethod(is_changed))
    runner = comfy.Runner("RAM_PRESSURE")
    assert runner.run(prompt("a new one")).ok
    assert "b" in toys.SEEN_ALIVE["right after"]
    again = runner.run(prompt("a new one"))
    assert again.ok and "b" in again.cached


@pytest.mark.parametrize("name", ["comfy_execution.caching.Unhashable", "execution.IsChangedCache.is_changed"])
def test_where_it_is_not_known_what_keys_are_made_of_it_stays(comfy, toys, name):
    from harness import broken

    with broken.broken([name]):
        assert comfy.Runner("RAM_PRESSURE").run(prompt("a new one")).ok
    assert "b" in toys.SEEN_ALIVE["right after"]
