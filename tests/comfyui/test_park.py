"""A pack keeps a model of 1 GB in a global: its RAM comes back, and every image stays what it was."""

import pytest
from harness.comfy_server import ComfyServer
from workflows import Variation, node, text_to_image

MIB, GIB = 2**20, 2**30


@pytest.fixture(scope="module")
def server():
    with ComfyServer("default") as running:
        yield running


def using(turn, reload=False):
    return {
        "source": node("EmptyImage", width=64, height=64, batch_size=1, color=0x336699),
        "keeper": node("ProbeKeeper", image=["source", 0], turn=turn, reload=reload),
        "save": node("SaveImage", images=["keeper", 0], filename_prefix="park"),
    }


def sweeping(key, **widgets):
    """A workflow that has nothing to do with the other pack."""
    return {
        "other": node("EmptyImage", width=32, height=32, batch_size=1, color=1),
        "ours": node(key, anything=["other", 0], **widgets),
    }


def run(server, prompt):
    result = server.run(prompt)
    assert result.ok, f"{result.error}\n{server.log_tail()}"
    return result


def outcome(report, kind):
    return next(row["outcome"] for row in report["rows"] if row["action"]["kind"] == kind)


def test_ram_comes_back_and_the_next_image_is_the_same(server):
    first = run(server, using(turn=1)).image_hashes
    for sweep in (2, 3):
        report = run(server, sweeping("CleanMemory_PurgeRAM")).reports()["ours"]
        park = outcome(report, "park")
        assert (report["requested_level"], report["level"]) == ("park", "park")
        if sweep == 2:
            assert report["freed"]["process_anonymous"] > 0.95 * GIB, park
            assert 0.95 * GIB < park["bytes"] < 1.2 * GIB, park
        else:
            # Only read since: nothing is written a second time.
            assert park["bytes"] < 0.05 * GIB, park
            assert park["already"] > 0.95 * GIB, park
        assert report["after"]["process"]["parked"] > 0.95 * GIB
        assert run(server, using(turn=sweep)).image_hashes == first


def test_the_middle_of_every_prompt_parks_what_is_not_needed_any_more(server):
    """From the second prompt on, the loader's output comes from the cache."""
    prompts = [text_to_image(Variation(seed=turn, text=f"a broom, study {turn}")) for turn in range(3)]
    expected = [run(server, prompt).image_hashes for prompt in prompts]
    server.free()
    for turn, prompt in enumerate(prompts):
        prompt["ours"] = node("CleanMemory_PurgePass", data=["sampler", 0], mode="RAM")
        prompt["decode"]["inputs"]["samples"] = ["ours", 0]
        result = run(server, prompt)
        park = outcome(result.reports()["ours"], "park")
        # The text encoder and the diffusion model; the decoder still needs the VAE.
        assert park["bytes"] + park["already"] > 300 * MIB, (turn, park)
        assert not [row for row in park["refused"] if row["reason"] == "in use"], (turn, park)
        assert result.image_hashes == expected[turn]


def test_destroyed_memory_is_one_clear_error_until_it_is_loaded_again(server):
    before = run(server, using(turn=10, reload=True)).image_hashes
    report = run(server, sweeping("CleanMemory_PurgeAll", leftovers="destroy")).reports()["ours"]
    destroyed = outcome(report, "destroy")
    owner = destroyed["owners"][0]
    assert "MODELS of" in owner["name"] and "keeper" in owner["name"]
    assert owner["bytes"] == GIB
    assert report["freed"]["process_anonymous"] > 0.95 * GIB

    broken = server.run(using(turn=11))
    assert not broken.ok
    for words in ("DestroyedError", "MemSweep node ours", "connect it to the sweep"):
        assert words in broken.error, broken.error
    assert run(server, using(turn=12, reload=True)).image_hashes == before
    # The next prompt does not see the error again.
    assert run(server, using(turn=13)).image_hashes == before
