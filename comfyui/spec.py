"""The node table: every node, its inputs and outputs, and what it asks for. Data only.

Eleven keys, their input names and the order of their outputs are those of the two packs MemSweep
replaces, so that saved workflows load unchanged. New inputs are optional, new outputs come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEVELS = ("trim", "collect", "unload", "evict", "park")
BROOM = "\N{BROOM}"


class AnyType(str):
    """Matches every socket type; ComfyUI before 0.16 has no wildcard of its own."""

    def __ne__(self, other: object) -> bool:
        return False


ANY = AnyType("*")
MODEL_TYPES = "MODEL,CLIP,VAE,CONTROL_NET"

SYSTEM_WIDE = (
    "BOOLEAN",
    {
        "default": False,
        "tooltip": "Linux: also drop the page cache of the whole machine (needs root). "
        "Windows: also page out this process. Never counted as freed.",
    },
)
AGGRESSIVE = (
    "BOOLEAN",
    {
        "default": False,
        "tooltip": "Off: reference cycles and allocator slack. On: also unload idle models and "
        "drop cached outputs that no later node needs.",
    },
)


@dataclass(frozen=True)
class LevelWidget:
    """The widget that says how far a node's sweep goes."""

    name: str
    # The level that each of its values asks for.
    levels: Mapping[Any, str]
    # What it was in prompts that were saved without it.
    absent: Any

    def level(self, widgets: Mapping[str, Any]) -> str:
        """The level these widget values ask for. The library refuses an unknown level."""
        value = widgets.get(self.name, self.absent)
        if isinstance(self.absent, bool):
            value = bool(value)
        return self.levels.get(value, str(value))


BY_AGGRESSIVE = LevelWidget("aggressive", {False: "collect", True: "evict"}, absent=False)
BY_MODE = LevelWidget("mode", {"VRAM": "unload", "RAM": "park"}, absent="RAM")
BY_LEFTOVERS = LevelWidget("leftovers", {"park": "park", "destroy": "destroy"}, absent="park")
BY_LEVEL = LevelWidget("level", {level: level for level in LEVELS}, absent="evict")


@dataclass(frozen=True)
class Choice:
    """A value of a widget that means something beyond the level."""

    name: str
    value: str


EVERY_QUEUE = Choice("run", "every queue")


@dataclass(frozen=True)
class NodeSpec:
    """One node."""

    key: str
    title: str
    description: str
    # Data inputs, in order; the first `required` of them must be connected.
    data: Mapping[str, Any]
    # How far its sweep goes: a fixed level, or as one of its widgets says.
    level: str | LevelWidget
    required: int = 1
    widgets: Mapping[str, Any] = field(default_factory=dict)
    optional_widgets: Mapping[str, Any] = field(default_factory=dict)
    # Names of the data inputs that come out again, in order; empty for a terminal node.
    passes: tuple[str, ...] = ()
    output_node: bool = False
    # `sweep`, `release_model` or `read`.
    task: str = "sweep"

    @property
    def terminal(self) -> bool:
        """Runs on every queue, because nothing depends on what it returns."""
        return not self.passes

    @property
    def all_widgets(self) -> Mapping[str, Any]:
        """Its widgets, in order."""
        return {**self.widgets, **self.optional_widgets}

    def level_for(self, widgets: Mapping[str, Any]) -> str:
        """The level these widget values ask for."""
        return self.level if isinstance(self.level, str) else self.level.level(widgets)


def _free_memory(kind: str) -> NodeSpec:
    name = kind.lower()
    return NodeSpec(
        key=f"FreeMemory{kind}",
        title=f"Free Memory ({kind})",
        description="Frees memory at this point of the workflow and passes its input on.",
        data={name: "STRING" if kind == "String" else kind.upper()},
        level=BY_AGGRESSIVE,
        widgets={"aggressive": AGGRESSIVE},
        optional_widgets={"system_wide": SYSTEM_WIDE},
        passes=(name,),
    )


def _purge(key: str, title: str, description: str, **more: Any) -> NodeSpec:
    more.setdefault("data", {"anything": ANY})
    title = f"{BROOM}{title}"
    return NodeSpec(key=f"CleanMemory_{key}", title=title, description=description, **more)


MODE = (
    ["VRAM", "RAM"],
    {"default": "RAM", "tooltip": "VRAM: idle models leave the device. RAM: also free RAM."},
)
FOUR = {f"data{index}": ANY for index in range(4)}

RUN = (
    ["when reached", EVERY_QUEUE.value],
    {
        "default": "when reached",
        "tooltip": "when reached: as any node, so not behind an unchanged input. every queue: where a "
        "prompt ends without reaching this node, the sweep runs then.",
    },
)

SPECS: tuple[NodeSpec, ...] = (
    *(_free_memory(kind) for kind in ("Image", "Latent", "Model", "CLIP", "String")),
    _purge(
        "PurgeVRAM",
        "Purge VRAM",
        "Every model that is not connected and not needed any more leaves its device.",
        level="unload",
        output_node=True,
    ),
    _purge(
        "PurgeRAM",
        "Purge RAM (Protected)",
        "Frees RAM and VRAM. What is connected, and what later nodes need, is not touched.",
        level="park",
        output_node=True,
    ),
    _purge(
        "PurgeAll",
        "Purge ALL",
        "Frees all that can be freed without breaking anything.",
        level=BY_LEFTOVERS,
        optional_widgets={
            "leftovers": (
                ["park", "destroy"],
                {
                    "default": "park",
                    "tooltip": "What to do with tensors that other packs still hold. park: their "
                    "memory goes to disk, nobody notices. destroy: their memory is taken; using "
                    "one is an error that says so.",
                },
            )
        },
        output_node=True,
    ),
    _purge(
        "PurgePass",
        "Purge & Pass",
        "Frees memory at this point of the workflow and passes its input on.",
        data={"data": ANY},
        level=BY_MODE,
        widgets={"mode": MODE},
        optional_widgets={EVERY_QUEUE.name: RUN},
        passes=("data",),
    ),
    _purge(
        "PurgeRAMProtectedMulti",
        "Purge RAM Multi",
        "Purge RAM with up to four protected inputs.",
        data=FOUR,
        level="park",
        output_node=True,
    ),
    _purge(
        "PurgePassMultiInput",
        "Purge & Pass Multi",
        "Purge & Pass with up to four protected inputs.",
        data=FOUR,
        level=BY_MODE,
        # Optional there, so prompts saved without it exist.
        optional_widgets={"mode": MODE},
        passes=tuple(FOUR),
    ),
    NodeSpec(
        key="MemSweepFree",
        title="Free Memory (Any)",
        description="Frees memory as far as the chosen level goes and passes its input on.",
        data={"anything": ANY},
        level=BY_LEVEL,
        widgets={
            "level": (
                list(LEVELS),
                {
                    "default": "evict",
                    "tooltip": "trim: allocator slack. collect: also reference cycles. unload: "
                    "also idle models. evict: also cached outputs nobody needs. park: also "
                    "memory that others hold and do not use goes to disk.",
                },
            )
        },
        optional_widgets={"system_wide": SYSTEM_WIDE, EVERY_QUEUE.name: RUN},
        passes=("anything",),
    ),
    NodeSpec(
        key="MemSweepReleaseModel",
        title="Release Model",
        description="This one model leaves VRAM and RAM. The next prompt that needs it loads it "
        "again.",
        data={"anything": ANY, "model": MODEL_TYPES},
        required=2,
        passes=("anything",),
        level="evict",
        task="release_model",
    ),
    NodeSpec(
        key="MemSweepReport",
        title="Memory Report",
        description="Reads who holds the memory. Frees nothing.",
        data={"anything": ANY},
        required=0,
        passes=("anything",),
        level="trim",
        output_node=True,
        task="read",
    ),
)

# No node: what is swept after a prompt that failed, where a user asks for that.
AFTER_FAILURE = NodeSpec(
    key="", title="After a failed prompt", description="", data={}, required=0, level=BY_LEVEL
)
