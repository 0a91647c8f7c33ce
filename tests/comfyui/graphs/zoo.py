"""Makes the random workflows' nodes known to ComfyUI, and their surroundings small."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import folder_paths
import nodes
from harness import toys
from PIL import Image

from graphs import beside, zoo_flow, zoo_models, zoo_state


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Registers the nodes; `folder` becomes ComfyUI's input folder, with one picture in it."""
    classes = {
        name: thing
        for module in (beside, zoo_flow, zoo_models, zoo_state)
        for name, thing in vars(module).items()
        if name.startswith("Toy") and isinstance(thing, type)
    }
    nodes.NODE_CLASS_MAPPINGS.update(classes)
    elements, toys.ELEMENTS = toys.ELEMENTS, 256
    inputs = folder_paths.get_input_directory()
    pixels = bytes((number * 37) % 256 for number in range(8 * 8 * 3))
    Image.frombytes("RGB", (8, 8), pixels).save(folder / "small.png")
    folder_paths.set_input_directory(str(folder))
    # What a library keeps in its globals is protected; what a pack keeps there may be destroyed.
    packs = folder_paths.folder_names_and_paths["custom_nodes"][0]
    packs.append(str(Path(__file__).parent))
    try:
        yield
    finally:
        packs.remove(str(Path(__file__).parent))
        folder_paths.set_input_directory(inputs)
        toys.ELEMENTS = elements
        for name in classes:
            del nodes.NODE_CLASS_MAPPINGS[name]
