"""The workflows of the scenario tests, in ComfyUI's API format.

Every scenario is a function from a `Variation` to a prompt that holds MemSweep's
nodes.  `bypass` gives the same prompt without them: the oracle of promise P1.
The letters are those of the baseline measurements: what the two replaced packs did to each of these workflows
is known, and is the reason why each is here.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

CHECKPOINT = "small.safetensors"


@dataclass(frozen=True)
class OurNode:
    """What the tests must know about one of MemSweep's nodes."""

    passes: tuple[str, ...]  # input that comes out at output 0, 1, ...; empty for a terminal node
    requested_level: str | None = None  # None: decided by an input

    @property
    def terminal(self) -> bool:
        return not self.passes


FOUR = ("data0", "data1", "data2", "data3")
OUR_NODES = {
    "FreeMemoryImage": OurNode(("image",)),
    "FreeMemoryLatent": OurNode(("latent",)),
    "FreeMemoryModel": OurNode(("model",)),
    "FreeMemoryCLIP": OurNode(("clip",)),
    "FreeMemoryString": OurNode(("string",)),
    "MemSweepFree": OurNode(("anything",)),
    "CleanMemory_PurgeVRAM": OurNode((), "unload"),
    "CleanMemory_PurgeRAM": OurNode((), "park"),
    "CleanMemory_PurgeAll": OurNode((), "park"),
    "CleanMemory_PurgePass": OurNode(("data",)),
    "CleanMemory_PurgeRAMProtectedMulti": OurNode((), "park"),
    "CleanMemory_PurgePassMultiInput": OurNode(FOUR),
    "MemSweepReleaseModel": OurNode(("anything",)),
    "MemSweepReport": OurNode(("anything",)),
}


def requested_level(node: dict) -> str | None:
    """The level a node of a prompt asks for; None for the nodes that have none."""
    kind, inputs = node["class_type"], node["inputs"]
    if kind.startswith("FreeMemory"):
        return "evict" if inputs.get("aggressive") else "collect"
    if kind == "MemSweepFree":
        return inputs["level"]
    if kind in ("CleanMemory_PurgePass", "CleanMemory_PurgePassMultiInput"):
        return "park" if inputs["mode"] == "RAM" else "unload"
    return OUR_NODES[kind].requested_level


@dataclass(frozen=True)
class Variation:
    """What changes from one queued prompt to the next."""

    seed: int = 1
    text: str = "a red fox in the snow"
    prefix: str = "first"
    size: int = 48


def bypass(prompt: dict) -> dict:
    """The same prompt without MemSweep's nodes: links to them lead to what they pass on."""
    ours = {node: data for node, data in prompt.items() if data["class_type"] in OUR_NODES}

    def resolve(value):
        while is_link(value) and value[0] in ours:
            data = ours[value[0]]
            value = data["inputs"][OUR_NODES[data["class_type"]].passes[value[1]]]
        return copy.deepcopy(value)

    return {
        node: {**data, "inputs": {name: resolve(value) for name, value in data["inputs"].items()}}
        for node, data in prompt.items()
        if node not in ours
    }


def is_link(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


# -- building blocks


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def text_to_image(v: Variation, checkpoint: str = CHECKPOINT, steps: int = 2, size: int = 64) -> dict:
    """Checkpoint, two texts, sampler, VAE, save: the workflow everybody has."""
    return {
        "loader": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "positive": node("CLIPTextEncode", clip=["loader", 1], text=v.text),
        "negative": node("CLIPTextEncode", clip=["loader", 1], text="blurry"),
        "empty": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "sampler": node(
            "KSampler", model=["loader", 0], positive=["positive", 0], negative=["negative", 0],
            latent_image=["empty", 0], seed=v.seed, steps=steps, cfg=7.0,
            sampler_name="euler", scheduler="normal", denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix=v.prefix),
    }


def image_only(v: Variation) -> dict:
    """LoadImage, scale, blur, save: no model at all."""
    return {
        "load": node("LoadImage", image="example.png"),
        "scale": scale(["load", 0], v.size),
        "blur": node("ImageBlur", image=["scale", 0], blur_radius=2, sigma=1.0),
        "save": node("SaveImage", images=["blur", 0], filename_prefix=v.prefix),
    }


def scale(image: list, size: int) -> dict:
    return node("ImageScale", image=image, upscale_method="bilinear", width=size, height=size, crop="disabled")


def through(prompt: dict, name: str, into: str, input_name: str, class_type: str, passed: str, **inputs) -> None:
    """Puts a pass-through node on the link that feeds `into.input_name`."""
    prompt[name] = node(class_type, **{passed: prompt[into]["inputs"][input_name]}, **inputs)
    prompt[into]["inputs"][input_name] = [name, 0]


# -- scenarios


@dataclass(frozen=True)
class Scenario:
    name: str
    build: Callable[[Variation], dict]
    queued: bool = False  # three different items are queued at once first
    seeds: bool = True
    texts: bool = True

    def steps(self) -> list[tuple[str, Variation]]:
        """The prompts before POST /free, in order, each with its name."""
        first = Variation()
        rows = [("first", first), ("same", first), ("prefix", replace(first, prefix="second"))]
        if self.seeds:
            rows.append(("seed", replace(first, seed=2)))
        else:
            rows.append(("size", replace(first, size=40)))
        if self.texts:
            rows.append(("text", replace(first, text="a blue car at night")))
        return rows

    def batch(self) -> list[Variation]:
        """The three items of a queue: seeds, or sizes where there is no sampler."""
        return [Variation(seed=10 + i, size=Variation.size + 8 * i, prefix=f"batch{i}") for i in range(3)]


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, **options):
    def register(build):
        SCENARIOS[name] = Scenario(name, build, **options)
        return build

    return register


def parameters(**ways: dict):
    """One scenario per keyword: the same workflow, with other inputs to our node."""

    def register(build):
        for name, (inputs, options) in ways.items():
            title = name.replace("_", "-")
            SCENARIOS[title] = Scenario(title, lambda v, inputs=inputs: build(v, **inputs), **options)
        return build

    return register


@scenario("clean-A0", queued=True, seeds=False, texts=False)
def image_pass(v):
    prompt = image_only(v)
    through(prompt, "ours", "save", "images", "CleanMemory_PurgePass", "data", mode="RAM")
    return prompt


@parameters(
    clean_A=({"mode": "RAM"}, {"queued": True}),
    clean_A_VRAM=({"mode": "VRAM"}, {"queued": True}),
)
def scaled_image_pass(v, mode):
    prompt = text_to_image(v)
    prompt["scale"] = scale(["decode", 0], v.size)
    prompt["save"]["inputs"]["images"] = ["scale", 0]
    through(prompt, "ours", "save", "images", "CleanMemory_PurgePass", "data", mode=mode)
    return prompt


@parameters(
    clean_B=({"kind": "CleanMemory_PurgeVRAM"}, {}),
    clean_E=({"kind": "CleanMemory_PurgeAll"}, {}),
    clean_ER=({"kind": "CleanMemory_PurgeRAM"}, {}),
)
def terminal_on_the_image(v, kind):
    prompt = text_to_image(v)
    prompt["ours"] = node(kind, anything=["decode", 0])
    return prompt


@scenario("clean-C")
def terminal_on_the_model(v):
    prompt = text_to_image(v)
    prompt["ours"] = node("CleanMemory_PurgeRAM", anything=["loader", 0])
    return prompt


@scenario("clean-C2")
def terminal_on_everything_loaded(v):
    prompt = text_to_image(v)
    prompt["ours"] = node(
        "CleanMemory_PurgeRAMProtectedMulti", data0=["loader", 0], data1=["loader", 1], data2=["loader", 2]
    )
    return prompt


@parameters(clean_D=({"mode": "RAM"}, {}), clean_D_VRAM=({"mode": "VRAM"}, {}))
def model_pass(v, mode):
    prompt = text_to_image(v)
    through(prompt, "ours", "sampler", "model", "CleanMemory_PurgePass", "data", mode=mode)
    return prompt


@parameters(clean_FH=({"mode": "RAM"}, {}), clean_FL=({"mode": "VRAM"}, {}))
def five_passes(v, mode):
    prompt = with_text_node(text_to_image(v), v)
    for name, into, slot in (
        ("ours_string", "positive", "text"), ("ours_model", "sampler", "model"), ("ours_clip", "positive", "clip"),
        ("ours_latent", "decode", "samples"), ("ours_image", "save", "images"),
    ):
        through(prompt, name, into, slot, "CleanMemory_PurgePass", "data", mode=mode)
    return prompt


@scenario("clean-G")
def multi_pass_of_all_three(v):
    prompt = text_to_image(v)
    prompt["ours"] = node(
        "CleanMemory_PurgePassMultiInput", data0=["loader", 0], data1=["loader", 1], data2=["loader", 2], mode="RAM"
    )
    prompt["sampler"]["inputs"]["model"] = ["ours", 0]
    prompt["positive"]["inputs"]["clip"] = ["ours", 1]
    prompt["negative"]["inputs"]["clip"] = ["ours", 1]
    prompt["decode"]["inputs"]["vae"] = ["ours", 2]
    return prompt


@scenario("clean-G2")
def multi_pass_without_the_vae(v):
    prompt = multi_pass_of_all_three(v)
    del prompt["ours"]["inputs"]["data2"]
    prompt["decode"]["inputs"]["vae"] = ["loader", 2]
    return prompt


@scenario("clean-I")
def latent_pass(v):
    prompt = text_to_image(v)
    through(prompt, "ours", "decode", "samples", "CleanMemory_PurgePass", "data", mode="RAM")
    return prompt


@scenario("clean-J")
def conditioning_pass(v):
    prompt = text_to_image(v)
    through(prompt, "ours", "sampler", "positive", "CleanMemory_PurgePass", "data", mode="RAM")
    return prompt


@scenario("free-A0", queued=True, seeds=False, texts=False)
def free_image_only(v):
    prompt = image_only(v)
    through(prompt, "ours", "save", "images", "FreeMemoryImage", "image", aggressive=True)
    return prompt


@scenario("free-A", queued=True)
def free_scaled_image(v):
    prompt = text_to_image(v)
    prompt["scale"] = scale(["decode", 0], v.size)
    prompt["save"]["inputs"]["images"] = ["scale", 0]
    through(prompt, "ours", "save", "images", "FreeMemoryImage", "image", aggressive=True)
    return prompt


@parameters(free_D=({"aggressive": True}, {}), free_DL=({"aggressive": False}, {}))
def free_model(v, aggressive):
    prompt = text_to_image(v)
    through(prompt, "ours", "sampler", "model", "FreeMemoryModel", "model", aggressive=aggressive)
    return prompt


@scenario("free-I")
def free_latent(v):
    prompt = text_to_image(v)
    through(prompt, "ours", "decode", "samples", "FreeMemoryLatent", "latent", aggressive=True)
    return prompt


@parameters(free_FH=({"aggressive": True}, {}), free_FL=({"aggressive": False}, {}))
def five_frees(v, aggressive):
    prompt = with_text_node(text_to_image(v), v)
    for name, into, slot, kind, passed in (
        ("ours_string", "positive", "text", "FreeMemoryString", "string"),
        ("ours_model", "sampler", "model", "FreeMemoryModel", "model"),
        ("ours_clip", "positive", "clip", "FreeMemoryCLIP", "clip"),
        ("ours_latent", "decode", "samples", "FreeMemoryLatent", "latent"),
        ("ours_image", "save", "images", "FreeMemoryImage", "image"),
    ):
        through(prompt, name, into, slot, kind, passed, aggressive=aggressive)
    return prompt


@scenario("own-free-evict")
def own_free(v):
    """MemSweepFree between the sampler and the VAE, at its strongest default level."""
    prompt = text_to_image(v)
    through(prompt, "ours", "decode", "samples", "MemSweepFree", "anything", level="evict")
    return prompt


@scenario("own-release-model")
def own_release(v):
    """The text encoder leaves before sampling, the diffusion model before decoding."""
    prompt = text_to_image(v)
    through(prompt, "ours_clip", "sampler", "positive", "MemSweepReleaseModel", "anything", model=["loader", 1])
    through(prompt, "ours_model", "decode", "samples", "MemSweepReleaseModel", "anything", model=["loader", 0])
    return prompt


@scenario("own-report")
def own_report(v):
    prompt = text_to_image(v)
    through(prompt, "ours", "decode", "samples", "MemSweepReport", "anything")
    return prompt


def with_text_node(prompt: dict, v: Variation) -> dict:
    """The positive text comes from a node of its own, so that a STRING link exists."""
    prompt["text"] = node("PrimitiveString", value=v.text)
    prompt["positive"]["inputs"]["text"] = ["text", 0]
    return prompt
