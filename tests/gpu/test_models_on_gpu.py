"""Unloading in a real ComfyUI on a real device, through ComfyUI's own model management."""

import json
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

PRELUDE = """
    import json, sys
    sys.path.insert(0, {comfy!r})
    sys.path.insert(0, {root!r})
    import comfy.options
    comfy.options.enable_args_parsing(False)
    import torch
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher
    from memsweep import hosting
    import comfyui.comfy_host as comfy_host

    class Weights(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8192, 8192, bias=False)
            self.device = torch.device("cpu")

    def model():
        device = management.get_torch_device()
        return ModelPatcher(Weights(), load_device=device, offload_device=torch.device("cpu"))

    def used():
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(0)

    host = comfy_host.ComfyHost(hosting, "1", None)

    def sweep(level, **protected):
        target = protected.pop("target", None)
        inventory = host.inventory(protected, None if target is None else [target])
        return json.loads(hosting.sweep_with(host, {{"level": level}}, inventory).to_json())
"""


@pytest.fixture
def in_comfyui(in_fresh_process):
    cache = pathlib.Path(os.environ.get("MEMSWEEP_CACHE", pathlib.Path.home() / ".cache/memsweep"))
    comfy = pathlib.Path(os.environ.get("MEMSWEEP_COMFYUI", cache / "comfyui/0.30.0"))
    if not comfy.is_dir():
        pytest.skip(f"no ComfyUI at {comfy}")
    prelude = PRELUDE.format(comfy=str(comfy), root=str(ROOT))
    return lambda script: json.loads(in_fresh_process(prelude + script).splitlines()[-1])


def test_the_protected_model_stays_and_the_other_leaves(in_comfyui):
    kept, gone, report = in_comfyui("""
    first, second = model(), model()
    management.load_models_gpu([first, second], force_full_load=True)
    report = sweep("unload", model=first)
    on_device = [loaded.model for loaded in management.current_loaded_models]
    print(json.dumps([first in on_device, second not in on_device, report]))
    """)
    assert kept and gone
    freed = next(d for d in report["freed"]["devices"] if d["id"] == "cuda:0")
    assert freed["torch"]["allocated"] >= 200 * 2**20


def test_release_model_takes_exactly_that_model(in_comfyui):
    names, freed = in_comfyui("""
    first, second = model(), model()
    management.load_models_gpu([first, second], force_full_load=True)
    before = used()
    sweep("evict", target=second)
    on_device = [loaded.model for loaded in management.current_loaded_models]
    print(json.dumps([[first in on_device, second in on_device], before - used()]))
    """)
    assert names == [True, False]
    assert freed >= 200 * 2**20
