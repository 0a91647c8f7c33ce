"""Which file a model was loaded from, and which part of a workflow it is.

A file comes from the patcher's own record of how to load it again, or from the inputs of the node that
made it. Where neither says, the file is unknown: nothing here is a guess.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

# By the class of what a patcher holds, or a class that one derives from. Except for text encoders, no patcher
# says what it is.
_PARTS = (
    ("diffusion model", re.compile(r"comfy\.model_base\.")),
    ("ControlNet", re.compile(r"comfy\.(cldm|ldm\.(\w+\.)*controlnet)\.")),
    ("CLIP vision", re.compile(r"comfy\.(clip_model\.CLIPVision|clip_vision\.|image_encoders\.)")),
    ("VAE", re.compile(r"comfy\.ldm\.(\w+\.)*\w*(vae|autoencoder)\w*\.")),
    ("VAE", re.compile(r"comfy\.(taesd|pixel_space_convert|ldm\.cascade\.stage_(a|c_coder))\.")),
)

# Kinds of model folders that hold such a part. A checkpoint holds several.
_FOLDERS = {
    "diffusion model": ("checkpoints", "diffusion_models"),
    "text encoder": ("checkpoints", "text_encoders", "clip"),
    "VAE": ("checkpoints", "vae", "vae_approx"),
    "ControlNet": ("controlnet", "model_patches"),
    "CLIP vision": ("checkpoints", "clip_vision"),
}

# Kinds of folders whose files are applied to a model, or are not models.
_NO_MODELS = ("configs", "custom_nodes", "datasets", "embeddings", "hypernetworks", "loras")


def part(patcher: Any) -> str | None:
    """What the model is in a workflow, such as `text encoder`."""
    if getattr(patcher, "is_clip", False) is True:
        return "text encoder"
    for cls in type(patcher.model).__mro__:
        path = f"{cls.__module__}.{cls.__qualname__}"
        for name, pattern in _PARTS:
            if pattern.match(path):
                return name
    return None


def recorded(patcher: Any) -> list[str]:
    """The files in the patcher's own record, as ComfyUI's loaders show them."""
    record = getattr(patcher, "cached_patcher_init", None)
    if not isinstance(record, tuple) or len(record) < 2 or not isinstance(record[1], tuple):
        return []
    # ComfyUI's own loaders take the paths first. What others take, only they know.
    if not str(getattr(record[0], "__module__", "")).startswith("comfy."):
        return []
    paths = record[1][0] if record[1] else None
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, str) for path in paths):
        return []
    return [_shown(path) for path in paths]


def of_loaders(
    executor: Mapping[str, Any], prompt: Any, wanted: Mapping[int, str | None]
) -> dict[int, list[str]]:
    """The files of these models, each with its part, by the inputs of the nodes that made them."""
    found: dict[int, set[str | None]] = {}
    for node_id, made in _makers(executor, wanted):
        inputs = prompt.get_node(node_id)["inputs"].values()
        texts = {value for value in inputs if isinstance(value, str)}
        for model in made:
            named = [text for text in texts if _is_file_of(text, wanted[model])]
            # A node with two such files does not say which of them it is.
            found.setdefault(model, set()).add(named[0] if len(named) == 1 else None)
    only = {model: names.pop() for model, names in found.items() if len(names) == 1}
    return {model: [name] for model, name in only.items() if name is not None}


def mapped(hosting: Any) -> list[str]:
    """The files in ComfyUI's model folders that this process has mapped."""
    import folder_paths

    # The folder of the nodes themselves is registered too; its files are code.
    code = folder_paths.get_folder_paths("custom_nodes")
    files: list[str] = hosting.mapped_files(list(_folders()), code)
    return files


def _makers(
    executor: Mapping[str, Any], wanted: Mapping[int, str | None]
) -> Iterator[tuple[str, set[int]]]:
    """Nodes whose output holds wanted models that no input brought in, unlike the model of a LoRA node."""
    nodes = {node["id"]: node for node in executor.get("nodes", ())}
    held = [
        None if entry["slots"] is None else {model for slot in entry["slots"] for model in slot["models"]}
        for entry in executor.get("entries", ())
    ]

    def output(node: Mapping[str, Any] | None) -> set[int] | None:
        return None if node is None or node["entry"] is None else held[node["entry"]]

    for node_id, node in nodes.items():
        made = (output(node) or set()) & wanted.keys()
        # What could not be read may have inputs that nobody sees.
        if made and node["reads"] != "anything":
            brought = [output(nodes.get(link["source"])) for link in node["links"]]
            known = [models for models in brought if models is not None]
            if len(known) == len(brought):
                yield node_id, made.difference(*known)


def _is_file_of(text: str, part: str | None) -> bool:
    """Whether the text names a file that may be such a part, as loaders' widgets do."""
    import folder_paths

    if not os.path.splitext(text)[1]:
        return False
    kinds = set(folder_paths.folder_names_and_paths).difference(_NO_MODELS)
    if part is not None:
        kinds.intersection_update(_FOLDERS[part])
    return any(folder_paths.get_full_path(kind, text) is not None for kind in kinds)


def _shown(path: str) -> str:
    """A file's name in its loader's list: its path within the model folder."""
    place = os.path.abspath(path)
    roots = (os.path.join(os.path.abspath(folder), "") for folder in _folders())
    root = max((root for root in roots if place.startswith(root)), key=len, default=None)
    return os.path.basename(place) if root is None else place[len(root) :]


def _folders() -> Iterator[str]:
    import folder_paths

    for kind in folder_paths.folder_names_and_paths.values():
        # Packs write one folder there as well.
        yield from [kind[0]] if isinstance(kind[0], str) else kind[0]
