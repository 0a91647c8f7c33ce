"""Reports call a model by its file and its part: where its loader recorded it, where only the workflow says
so, and not at all where neither does."""

import ast
import gc
import importlib
import sys
import types
import weakref

import pytest
import torch
from harness.executor import pack
from harness.paths import checkpoints, comfyui_tree
from workflows import node

FILE = "small.safetensors"
PARTS = ("diffusion model", "text encoder", "VAE")
ALL = {f"{FILE}, {part} on cpu" for part in PARTS}


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch):
    """ComfyUI's model folders: the small checkpoint, a LoRA that fits nothing, and a file of each kind."""
    import folder_paths
    from safetensors.torch import save_file

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    kinds = ("checkpoints", "loras", "vae", "text_encoders", "controlnet", "ours", "configs")
    for kind in kinds:
        (tmp_path / kind / "sub").mkdir(parents=True)
        (tmp_path / kind / "sub" / f"{kind}.safetensors").touch()
        folder_paths.folder_names_and_paths[kind] = ([str(tmp_path / kind)], {".safetensors"})
    # Packs have model folders within their own.
    folder_paths.folder_names_and_paths["custom_nodes"] = ([str(tmp_path)], set())
    (tmp_path / "checkpoints" / FILE).symlink_to(checkpoints() / FILE)
    save_file({"nothing.lora_up.weight": torch.zeros(1)}, tmp_path / "loras" / "lora.safetensors")
    return tmp_path


@pytest.fixture
def runner(comfy, toys, monkeypatch):
    """With a node that loads what it gets, as samplers do, and lets go of it."""
    import comfy.model_management as management
    import nodes

    @toys.toy(optional=("model", "clip", "vae", "after"))
    def ToyUse(model=None, clip=None, vae=None, after=None):
        patchers = [model, *(holder.patcher for holder in (clip, vae) if holder is not None)]
        management.load_models_gpu([patcher for patcher in patchers if patcher is not None])
        return (7,)

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "ToyUse", ToyUse)
    yield comfy.Runner("CLASSIC")
    management.unload_all_models()


def used(lora=False, level="unload"):
    """A checkpoint with all three models loaded, and a sweep when nobody needs them any more."""
    model, clip, prompt = ["4", 0], ["4", 1], {"4": node("CheckpointLoaderSimple", ckpt_name=FILE)}
    if lora:
        inputs = {"lora_name": "lora.safetensors", "strength_model": 1.0, "strength_clip": 1.0}
        prompt["10"] = node("LoraLoader", model=model, clip=clip, **inputs)
        model, clip = ["10", 0], ["10", 1]
    return {
        **prompt,
        "5": node("ToyUse", model=model, clip=clip, vae=["4", 2]),
        "9": node("MemSweepFree", anything=["5", 0], level=level),
        "8": node("ToySave", value=["9", 0]),
    }


def unloaded(result):
    assert result.ok, result.error
    return {row["what"]: row["action"]["name"] for row in result.report("9")["rows"] if row["action"]["kind"] == "unload"}


def forgetting(monkeypatch):
    """A ComfyUI whose patchers record nothing: before 0.16, and for VAEs before 0.24."""
    from comfy.model_patcher import ModelPatcher

    nothing = property(lambda self: None, lambda self, value: None)
    monkeypatch.setattr(ModelPatcher, "cached_patcher_init", nothing, raising=False)


RECORDED = pytest.mark.parametrize("recorded", (True, False), ids=("recorded", "by the loader's inputs"))


@RECORDED
@pytest.mark.parametrize("lora", (False, True), ids=("", "with a LoRA"))
def test_the_parts_of_a_checkpoint_go_by_its_file(runner, folders, monkeypatch, recorded, lora):
    if not recorded:
        forgetting(monkeypatch)
    names = unloaded(runner.run(used(lora)))
    assert names.keys() == ALL
    assert {f"{name} on cpu" for name in names.values()} == ALL


def test_a_model_in_a_subfolder_goes_by_what_its_loader_shows(runner, folders):
    (folders / "checkpoints" / FILE).rename(folders / "checkpoints" / "sub" / FILE)
    prompt = used()
    prompt["4"] = node("CheckpointLoaderSimple", ckpt_name=f"sub/{FILE}")
    assert unloaded(runner.run(prompt)).keys() == {f"sub/{what}" for what in ALL}


def test_what_stays_goes_by_its_file_too(runner, folders):
    prompt = used(level="evict")
    prompt["6"] = node("ToyUse", vae=["4", 2], after=["9", 0])
    prompt["8"] = node("ToySave", value=["6", 0])
    result = runner.run(prompt)
    assert unloaded(result).keys() == {what for what in ALL if "VAE" not in what}
    needed = {
        row["what"]: row["because"]["node"]
        for row in result.report("9")["kept"] if row["because"]["kind"] == "needed_by"
    }
    assert needed == {f"{FILE}, VAE on cpu": "#6 ToyUse", "#4 Load Checkpoint": "#6 ToyUse"}


def test_a_model_that_no_loader_made_goes_by_its_class(runner, folders):
    prompt = used()
    # Its label is the name of a file, and in no folder of models.
    prompt["4"] = node("ToyModel", label="nowhere.safetensors")
    prompt["5"] = node("ToyUse", model=["4", 0])
    assert unloaded(runner.run(prompt)) == {"model ToyNetwork on cpu": "ToyNetwork"}


def test_a_model_of_an_unknown_kind_goes_by_the_only_file_that_its_node_names(runner, folders):
    prompt = used()
    prompt["4"] = node("ToyModel", label="sub/ours.safetensors")
    prompt["5"] = node("ToyUse", model=["4", 0])
    assert unloaded(runner.run(prompt)) == {"model sub/ours.safetensors on cpu": "sub/ours.safetensors"}


@RECORDED
def test_memory_report_and_a_sweep_call_a_model_alike(runner, folders, monkeypatch, recorded):
    if not recorded:
        forgetting(monkeypatch)
    prompt = used()
    prompt["other"] = node("ToyModel", label="idle")
    prompt["5"]["inputs"]["after"] = ["other", 0]
    prompt["7"] = node("MemSweepReport", anything=["5", 0])
    prompt["9"]["inputs"]["anything"] = ["7", 0]
    result = runner.run(prompt)
    told = result.report("7")["models"]
    assert {row["what"] for row in told} == unloaded(result).keys() == {*ALL, "model ToyNetwork on cpu"}
    assert {row["part"] for row in told if row["files"] == [FILE]} == set(PARTS)
    shown = [line.rpartition(": ")[0] for line in result.text("7").split("\n")]
    assert {row["what"] for row in told} <= set(shown)


def test_no_model_stays_alive_by_its_name(runner, folders, monkeypatch):
    import comfy.model_management as management

    forgetting(monkeypatch)
    assert unloaded(runner.run(used())).keys() == ALL
    watched = [weakref.ref(runner_holds(runner))]
    management.unload_all_models()
    runner.reset()
    gc.collect()
    assert watched[0]() is None


def runner_holds(runner):
    """The diffusion model in the loader's output."""
    outputs = [entry.outputs for entry in runner.executor.caches.outputs.cache.values()]
    (model,) = [slots[0][0].model for slots in outputs if len(slots) == 3]
    return model


# -- by the nodes that made them, without a real model


class Prompt:
    def __init__(self, **inputs):
        self.inputs = inputs

    def get_node(self, node_id):
        return {"class_type": "Any", "inputs": self.inputs.get(node_id, {})}


def fact(name, models, *sources, opaque=False):
    """A node, the models in its cached output, and the nodes that it is linked to."""
    return name, models, sources, opaque


def found(nodes, part="VAE", wanted=(0,), **inputs):
    entries = [(name, models) for name, models, *_ in nodes if models is not None]
    numbers = {name: number for number, (name, _) in enumerate(entries)}
    executor = {
        "nodes": [
            {
                "id": name, "reads": "anything" if opaque else "links", "entry": numbers.get(name),
                "links": [{"source": source, "slot": 0} for source in sources],
            }
            for name, _, sources, opaque in nodes
        ],
        "entries": [
            {"slots": None if models == "?" else [{"storages": [], "models": models}]}
            for _, models in entries
        ],
    }
    files = pack("comfy_host.files")
    return files.of_loaders(executor, Prompt(**inputs), dict.fromkeys(wanted, part))


VAE, CLIP, LORA, CHECKPOINT = (f"sub/{kind}.safetensors" for kind in ("vae", "text_encoders", "loras", "checkpoints"))


def test_the_node_that_made_a_model_is_the_one_that_got_it_from_no_input(folders):
    loader, widget = fact("loader", [0]), {"loader": {"name": VAE}}
    assert found([loader], **widget) == {0: [VAE]}
    lora = fact("lora", [0], "loader")
    assert found([loader, lora], **widget, lora={"name": CHECKPOINT}) == {0: [VAE]}
    # Where the loader's output is gone, nobody knows what came in.
    gone = fact("loader", None)
    assert found([gone, lora], **widget, lora={"name": CHECKPOINT}) == {}
    assert found([fact("loader", "?"), lora], **widget, lora={"name": CHECKPOINT}) == {}
    assert found([lora], lora={"name": CHECKPOINT}) == {}
    # An input that holds something else brings nothing.
    after = [fact("image", []), fact("loader", [0], "image")]
    assert found(after, **widget) == {0: [VAE]}
    assert found([fact("loader", [0], opaque=True)], **widget) == {}
    assert found([loader], wanted=(1,), **widget) == {}


def test_nodes_that_name_different_files_name_nothing(folders):
    both = [fact("one", [0]), fact("two", [0])]
    assert found(both, one={"name": VAE}, two={"name": VAE}) == {0: [VAE]}
    assert found(both, one={"name": VAE}, two={"name": CHECKPOINT}) == {}
    assert found(both, one={"name": VAE}, two={"text": "a fox"}) == {}


@pytest.mark.parametrize(("part", "inputs", "file"), (
    ("VAE", [VAE], VAE),
    ("VAE", [VAE, CHECKPOINT], None),
    ("diffusion model", [VAE, CHECKPOINT, LORA], CHECKPOINT),
    ("text encoder", [VAE, CLIP], CLIP),
    ("ControlNet", [VAE, CHECKPOINT], None),
    (None, [CHECKPOINT, LORA], CHECKPOINT),
    (None, ["sub/ours.safetensors"], "sub/ours.safetensors"),
    (None, [LORA, "sub/configs.safetensors"], None),
    ("VAE", ["sub/missing.safetensors", "sub", "", "../vae", 7, None, ["x", 0], "a\0.b", "\udc80.b"], None),
))
def test_a_file_counts_where_it_can_be_that_part(folders, part, inputs, file):
    widgets = {f"widget{number}": value for number, value in enumerate(inputs)}
    assert found([fact("loader", [0])], part, loader=widgets) == ({} if file is None else {0: [file]})


# -- the patcher's own record


def loaders_function(module):
    def load():
        pass

    load.__module__ = module
    return load


@pytest.mark.parametrize(("record", "shown"), (
    (("comfy.sd", "checkpoints/a.safetensors"), ["a.safetensors"]),
    (("comfy.sd", ["text_encoders/l.safetensors", "text_encoders/sub/t5.safetensors"]),
     ["l.safetensors", "sub/t5.safetensors"]),
    (("comfy.sd", "../elsewhere/b.safetensors"), ["b.safetensors"]),
    (("another_pack.loaders", "checkpoints/a.safetensors"), []),
    (("comfy.sd", 7), []),
    (("comfy.sd", ["checkpoints/a.safetensors", None]), []),
    (None, []),
    ((), []),
    (("comfy.sd",), []),
), ids=str)
def test_the_record_of_a_loader_of_comfyuis_own(folders, record, shown):
    def place(path):
        return str(folders / path) if isinstance(path, str) else path

    kept = record
    if record:
        paths = [[place(one) for one in path] if isinstance(path, list) else place(path) for path in record[1:]]
        kept = (loaders_function(record[0]), (*paths, {"options": 1}) if paths else ())
    patcher = types.SimpleNamespace(cached_patcher_init=kept)
    assert pack("comfy_host.files").recorded(patcher) == shown
    assert pack("comfy_host.files").recorded(types.SimpleNamespace()) == []


# -- the part


def classes_of(variable):
    """The classes of which `comfy.sd` makes a variable of this name, by its source."""
    import comfy.sd

    tree = ast.parse((comfyui_tree() / "comfy" / "sd.py").read_text())
    for made in ast.walk(tree):
        if isinstance(made, ast.Assign) and isinstance(made.value, ast.Call):
            if ast.unparse(made.targets[0]) == variable and not ast.unparse(made.value).startswith(variable):
                found = comfy.sd
                for name in ast.unparse(made.value.func).split("."):
                    found = sys.modules["comfy"] if name == "comfy" else getattr(found, name)
                yield found


def part_of(cls):
    model = cls.__new__(cls)
    return pack("comfy_host.files").part(types.SimpleNamespace(model=model))


def test_every_vae_of_comfyui_is_known_as_one(comfy):
    classes = set(classes_of("self.first_stage_model"))
    assert len(classes) > 10
    assert {cls: part_of(cls) for cls in classes} == dict.fromkeys(classes, "VAE")


@pytest.mark.parametrize(("module", "name", "part"), (
    ("comfy.model_base", "BaseModel", "diffusion model"),
    ("comfy.model_base", "Flux", "diffusion model"),
    ("comfy.cldm.cldm", "ControlNet", "ControlNet"),
    ("comfy.cldm.mmdit", "ControlNet", "ControlNet"),
    ("comfy.ldm.flux.controlnet", "ControlNetFlux", "ControlNet"),
    ("comfy.ldm.hydit.controlnet", "HunYuanControlNet", "ControlNet"),
    ("comfy.clip_model", "CLIPVisionModelProjection", "CLIP vision"),
    ("comfy.image_encoders.dino2", "Dinov2Model", "CLIP vision"),
    ("comfy.clip_model", "CLIPTextModel", None),
    ("comfy.ldm.modules.diffusionmodules.openaimodel", "UNetModel", None),
))
def test_the_part_of_other_models(comfy, module, name, part):
    cls = getattr(importlib.import_module(module), name)
    assert part_of(cls) == part
    # As other packs derive from them.
    assert part_of(type("Ours", (cls,), {"__module__": "another_pack"})) == part
