"""The node kinds that random workflows are made of: toy nodes, and ComfyUI's own.

Sockets are typed so that every drawn workflow runs. `any` takes every kind of value.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NO_FAILURE = "no"
FAILURES = ("error", "oom", "interrupt")


@dataclass(frozen=True)
class Kind:
    """One node class: what it takes, what it gives, and the widget values to choose from."""

    node: str
    takes: dict[str, str] = field(default_factory=dict)
    gives: tuple[str, ...] = ()
    widgets: dict[str, tuple] = field(default_factory=dict)
    fixed: dict[str, object] = field(default_factory=dict)
    # How often it is drawn.
    weight: int = 1
    # An output node, which a prompt can be asked for.
    shows: bool = False


SEEDS = (1, 2, 3)
PIECE = "piece"  # a tensor of one fixed shape
PIECES = "pieces"  # a list output: later nodes run once per item

KINDS = (
    # Only two seeds: identical nodes, which share one cache entry, come up often.
    Kind("ToySource", {}, (PIECE,), {"seed": (1, 2)}, {"label": "source"}),
    Kind("ToyStep", {"value": PIECE}, (PIECE,), fixed={"label": "step"}, weight=5),
    Kind("ToyMix", {"a": PIECE, "b": PIECE}, (PIECE,), fixed={"label": "mix"}, weight=4),
    Kind("ToyPair", {"value": PIECE}, (PIECE, PIECE), fixed={"label": "pair"}),
    Kind("ToyView", {"value": PIECE}, (PIECE,), fixed={"label": "view"}),
    Kind("ToyLitter", {"value": PIECE}, (PIECE,), weight=16),
    Kind("ToyWait", {"value": PIECE}, (PIECE,)),
    Kind("ToyShowAndPass", {"value": PIECE}, (PIECE,), fixed={"name": "mid"}, weight=2, shows=True),
    Kind("ToyBlock", {"value": PIECE}, (PIECE,), {"blocked": ("no", "no", "yes")}),
    Kind("ToyFail", {"value": PIECE}, (PIECE,), fixed={"how": NO_FAILURE}),
    Kind(
        "ToyChoose",
        {"a": PIECE, "b": PIECE, "after": PIECE},
        (PIECE,),
        {"which": ("a", "b")},
        weight=2,
    ),
    Kind(
        "ToyGrow",
        {"value": PIECE},
        (PIECE, PIECE),
        {"sweep": ("none", "unload", "evict", "evict")},
        weight=6,
    ),
    Kind("ToyRaw", {"link": PIECE, "after": PIECE}, (PIECE,), fixed={"label": "raw"}),
    Kind("ToyList", {"value": PIECE}, (PIECES,), fixed={"label": "list"}),
    Kind("ToyStep", {"value": PIECES}, (PIECES,), fixed={"label": "item"}),
    Kind("ToyBlockedList", {"value": PIECE}, (PIECES,), fixed={"label": "blocked"}),
    Kind("ToyJoin", {"values": PIECES}, (PIECE,)),
    # Loops that nodes unroll by themselves.
    Kind(
        "ToyUnroll",
        {"value": PIECE, "other": PIECE},
        (PIECE,),
        {"times": (1, 2, 3), "sweep": ("none", "unload", "evict")},
        weight=3,
    ),
    Kind("ToyReach", {"value": PIECE}, (PIECE,)),
    # State, kept in each of the ways that packs keep it.
    Kind("ToyKeepSelf", {"value": PIECE}, (PIECE, PIECE), {"seed": SEEDS}, weight=2),
    Kind("ToyKeepModule", {"value": PIECE}, (PIECE, PIECE), {"seed": SEEDS}, weight=2),
    Kind("ToyKeepClosure", {"value": PIECE}, (PIECE, PIECE), {"seed": SEEDS}, weight=2),
    Kind("ToyKeepLru", {"value": PIECE}, (PIECE, PIECE), {"seed": SEEDS}, weight=2),
    Kind("ToyKeepThread", {"value": PIECE}, (PIECE,), {"seed": (1,)}, weight=2),
    Kind("ToyKeepGraph", {"value": PIECE}, (PIECE,), {"seed": (1,)}, weight=2),
    # Models, and the real nodes around them.
    Kind("ToyCheckpoint", {}, ("model", "clip", "vae"), {"seed": (1, 2)}, weight=4),
    # The same model object in every executor; nothing clones it, because the clones' patches would differ.
    Kind("ToyShared", {}, ("shared",), {"seed": (1,)}),
    Kind("ToySharedUse", {"model": "shared", "value": PIECE}, (PIECE,)),
    Kind("ToyControlLoader", {}, ("control",), {"seed": (1, 2)}),
    Kind(
        "ToyLora",
        {"model": "model", "clip": "clip"},
        ("model", "clip"),
        {"seed": (1, 2)},
        weight=3,
    ),
    Kind("ToyHook", {"model": "model"}, ("model",), {"seed": (1, 2)}, weight=2),
    Kind("CLIPSetLastLayer", {"clip": "clip"}, ("clip",), {"stop_at_clip_layer": (-1, -2)}),
    Kind(
        "CLIPTextEncode",
        {"clip": "clip"},
        ("text",),
        {"text": ("a fox", "a cat", "blurry")},
        weight=3,
    ),
    Kind("ConditioningCombine", {"conditioning_1": "text", "conditioning_2": "text"}, ("text",)),
    Kind(
        "ConditioningAverage",
        {"conditioning_to": "text", "conditioning_from": "text"},
        ("text",),
        {"conditioning_to_strength": (0.25, 0.75)},
    ),
    Kind("ConditioningZeroOut", {"conditioning": "text"}, ("text",)),
    Kind(
        "ControlNetApplyAdvanced",
        {"positive": "text", "negative": "text", "control_net": "control", "image": "image"},
        ("text", "text"),
        {"strength": (0.5, 1.0)},
        {"start_percent": 0.0, "end_percent": 1.0},
        weight=2,
    ),
    Kind(
        "EmptyLatentImage",
        {},
        ("latent",),
        {"width": (64, 128)},
        {"height": 64, "batch_size": 1},
    ),
    Kind(
        "LatentFlip",
        {"samples": "latent"},
        ("latent",),
        {"flip_method": ("x-axis: vertically", "y-axis: horizontally")},
    ),
    Kind(
        "LatentBlend",
        {"samples1": "latent", "samples2": "latent"},
        ("latent",),
        {"blend_factor": (0.25, 0.5)},
    ),
    Kind(
        "ToySampler",
        {"model": "model", "positive": "text", "negative": "text", "latent_image": "latent"},
        ("latent",),
        {"seed": SEEDS},
        weight=6,
    ),
    Kind("VAEDecode", {"samples": "latent", "vae": "vae"}, ("image",), weight=2),
    Kind("VAEEncode", {"pixels": "image", "vae": "vae"}, ("latent",)),
    Kind("LoadImage", {}, ("image",), {"image": ("small.png",)}),
    Kind("ImageInvert", {"image": "image"}, ("image",)),
    Kind(
        "ImageScale",
        {"image": "image"},
        ("image",),
        {"width": (8, 12)},
        {"height": 8, "upscale_method": "nearest-exact", "crop": "disabled"},
    ),
    Kind("ToyUpscaleWithModel", {"model": "model", "image": "image"}, ("image",)),
)

# Ends of a workflow, by what they show.
SHOWS = {
    **{
        socket: Kind("ToyShow", {"value": socket}, shows=True)
        for socket in (PIECE, "latent", "image", "text")
    },
    PIECES: Kind("ToyShowList", {"values": PIECES}, shows=True),
}

# The loop of packs for loops: the end node clones the body by its id.
LOOP_BODY = Kind("ToyMix", {"a": PIECE, "b": PIECE}, (PIECE,), fixed={"label": "body"})
LOOP_END = Kind("ToyLoopEnd", {"value": PIECE}, (PIECE,), {"times": (0, 1, 2)})

# A loop of copies: what lies between its start and its end.
LOOP_START = Kind("ToyLoopStart", {"value": PIECE}, ("flow", PIECE), {"times": (1, 2, 3)})
LOOP_CLOSES = tuple(
    Kind(end, {"value": PIECE}, (PIECE,), {"early": ("no", "no", "yes")})
    for end in ("ToyLoopClose", "ToyForClose")
)
LOOPED = tuple(
    kind
    for kind in KINDS
    if {*kind.takes.values(), *kind.gives} <= {PIECE, PIECES}
    and kind.node not in ("ToySource", "ToyBlock", "ToyBlockedList", "ToyFail")
)


@dataclass(frozen=True)
class SweepKind:
    """One of MemSweep's nodes with its settings.

    `system_wide` is never on: it would drop the page cache of the machine the tests run on.
    """

    node: str
    # The input that carries the link the node sits on; None for a terminal node's.
    passes: str | None
    widgets: dict[str, object] = field(default_factory=dict)
    # More inputs: any values for the multi nodes, a model for Release Model.
    also: tuple[str, ...] = ()
    also_model: bool = False
    # How often it is drawn: levels that drop references come up more than those that cannot.
    weight: int = 1


def _free(level: str, weight: int = 1) -> SweepKind:
    return SweepKind("MemSweepFree", "anything", {"level": level}, weight=weight)


PASSING = (
    _free("evict", weight=4),
    _free("park", weight=4),
    SweepKind("CleanMemory_PurgePass", "data", {"mode": "RAM"}, weight=4),
    SweepKind("CleanMemory_PurgePass", "data", {"mode": "VRAM"}),
    SweepKind("FreeMemoryImage", "image", {"aggressive": True}),
    SweepKind("FreeMemoryLatent", "latent", {"aggressive": False}),
    SweepKind("FreeMemoryModel", "model", {"aggressive": True}),
    SweepKind("FreeMemoryCLIP", "clip", {"aggressive": True}),
    SweepKind("FreeMemoryString", "string", {"aggressive": True}),
    SweepKind(
        "CleanMemory_PurgePassMultiInput", "data0", {"mode": "RAM"}, ("data1", "data2", "data3")
    ),
    SweepKind("MemSweepReleaseModel", "anything", also_model=True),
    _free("unload"),
    _free("collect"),
    _free("trim"),
    SweepKind("MemSweepReport", "anything"),
)
TERMINAL = (
    SweepKind("CleanMemory_PurgeAll", None, weight=2),
    SweepKind("CleanMemory_PurgeRAM", None, weight=2),
    SweepKind("CleanMemory_PurgeVRAM", None),
    SweepKind("CleanMemory_PurgeAll", None, {"leftovers": "park"}),
    SweepKind("CleanMemory_PurgeAll", None, {"leftovers": "destroy"}),
    SweepKind("CleanMemory_PurgeRAMProtectedMulti", None, {}, ("data1", "data2", "data3")),
)
