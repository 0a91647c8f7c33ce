"""Models of a real checkpoint on a real server: which leave ComfyUI's loaded list, which stay."""

from dataclasses import replace

import pytest
from extent import first, thorough
from harness.comfy_server import FAST_FLAGS, ComfyServer
from workflows import Variation, bypass, node, text_to_image, through

DIFFUSION, TEXT, AUTOENCODER = "BaseModel", "SD1ClipModel", "TAESD"
FIRST, SECOND, THIRD = Variation(seed=1), Variation(seed=2), Variation(seed=3)


@pytest.fixture(scope="module")
def server():
    with ComfyServer("default", flags=FAST_FLAGS) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(server):
    server.free()


def loaded(server):
    return {model["name"] for model in server.get("/probe/models")["models"]}


def seen(result, probe="probe"):
    return {model["name"] for model in result.outputs[probe]["probe_models"]}


def run(server, oracle, prompt):
    result = server.run(prompt)
    assert result.ok, f"{result.error}\n{server.log_tail()}"
    plain = {name: data for name, data in bypass(prompt).items() if data["class_type"] != "ProbeModels"}
    if result.image_hashes:
        assert result.image_hashes == oracle.hashes(plain)
    return result


@pytest.mark.parametrize("mode", ("VRAM", "RAM"))
def test_after_the_sampler_only_the_vae_of_the_same_loader_stays(server, oracle, mode):
    run(server, oracle, text_to_image(FIRST))
    assert loaded(server) == {DIFFUSION, TEXT, AUTOENCODER}

    prompt = text_to_image(SECOND)
    through(prompt, "ours", "decode", "samples", "CleanMemory_PurgePass", "data", mode=mode)
    prompt["probe"] = node("ProbeModels", anything=["ours", 0])
    result = run(server, oracle, prompt)
    assert seen(result) == {AUTOENCODER}


@pytest.mark.parametrize(("slot", "name"), first(1, ((0, DIFFUSION), (1, TEXT), (2, AUTOENCODER))))
def test_a_connected_model_stays_and_all_others_leave(server, oracle, slot, name):
    run(server, oracle, text_to_image(FIRST))
    prompt = {
        "loader": text_to_image(FIRST)["loader"],
        "ours": node("CleanMemory_PurgePass", data=["loader", slot], mode="VRAM"),
        "probe": node("ProbeModels", anything=["ours", 0]),
    }
    result = run(server, oracle, prompt)
    assert "loader" in result.cached
    assert seen(result) == {name}
    run(server, oracle, text_to_image(THIRD))


def test_two_connected_models_stay(server, oracle):
    run(server, oracle, text_to_image(FIRST))
    prompt = {
        "loader": text_to_image(FIRST)["loader"],
        "ours": node("CleanMemory_PurgePassMultiInput", data0=["loader", 2], data1=["loader", 0], mode="VRAM"),
        "probe": node("ProbeModels", anything=["ours", 0]),
    }
    assert seen(run(server, oracle, prompt)) == {DIFFUSION, AUTOENCODER}


def test_purge_vram_at_the_end_leaves_no_model_loaded(server, oracle):
    prompt = text_to_image(FIRST)
    prompt["ours"] = node("CleanMemory_PurgeVRAM", anything=["decode", 0])
    run(server, oracle, prompt)
    assert loaded(server) == set()
    # The checkpoint itself stays in the cache: only the device is emptied.
    assert "loader" in run(server, oracle, replace_seed(prompt, 2)).cached


def replace_seed(prompt, seed):
    return {**prompt, "sampler": {**prompt["sampler"], "inputs": {**prompt["sampler"]["inputs"], "seed": seed}}}


def test_release_model_takes_one_model_out_of_memory_and_the_next_prompt_loads_it_again(server, oracle):
    plain = text_to_image(FIRST)
    run(server, oracle, plain)
    # Once more, so that what a first run allocates for good does not count.
    run(server, oracle, text_to_image(replace(FIRST, seed=5)))
    resident = server.resident_bytes()

    prompt = text_to_image(SECOND)
    through(prompt, "ours", "save", "images", "MemSweepReleaseModel", "anything", model=["loader", 0])
    prompt["probe"] = node("ProbeModels", anything=["ours", 0])
    result = run(server, oracle, prompt)
    assert DIFFUSION not in seen(result)
    # Text encoder and VAE are in the same loader's output, which is invalid now. That a model of
    # another loader stays is shown in test_protection.py.

    # RAM as well: the diffusion model alone is 98 MB here.
    assert resident - server.resident_bytes() > 80 * 2**20

    again = run(server, oracle, text_to_image(THIRD))
    assert "loader" not in again.cached
    assert DIFFUSION in loaded(server)


def test_released_text_encoder_comes_back_for_a_new_text(server, oracle):
    prompt = text_to_image(FIRST)
    through(prompt, "ours", "save", "images", "MemSweepReleaseModel", "anything", model=["loader", 1])
    run(server, oracle, prompt)
    assert TEXT not in loaded(server)
    run(server, oracle, text_to_image(replace(FIRST, text="a green hill")))


@thorough
def test_without_a_cache_the_model_of_a_pending_node_stays(oracle):
    """The executor alone holds what the decoder still reads; there is no cache to ask."""
    with ComfyServer("none", flags=["--fp32-text-enc"]) as running:
        prompt = text_to_image(SECOND)
        through(prompt, "ours", "decode", "samples", "CleanMemory_PurgePass", "data", mode="VRAM")
        # Loads the autoencoder, so that there is something to unload wrongly.
        prompt["early"] = node("VAEEncode", pixels=["blank", 0], vae=["loader", 2])
        prompt["blank"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
        prompt["sampler"]["inputs"]["latent_image"] = ["early", 0]
        prompt["probe"] = node("ProbeModels", anything=["ours", 0])
        assert seen(run(running, oracle, prompt)) == {AUTOENCODER}
