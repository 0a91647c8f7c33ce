"""What ComfyUI says about memory that somebody still holds: where it may be parked, and which of it may never
be destroyed."""

from __future__ import annotations

import os
import time
from types import FrameType, ModuleType
from typing import Any

from .assumptions import Off, is_off
from .facts import Facts


def check_cancelled() -> None:
    """Raises what ComfyUI raises when the user has cancelled the prompt."""
    import comfy.model_management as management

    if is_off(Off.CANCEL) is None:
        management.throw_exception_if_processing_interrupted()


def spill_folder() -> str | None:
    """Beside ComfyUI's temporary folder, which is on the user's disk."""
    import folder_paths

    folder = os.path.dirname(os.path.abspath(folder_paths.get_temp_directory()))
    return folder if os.path.isdir(folder) else None


class Progress:
    """Shows long parking on the node, and lets a cancel stop it."""

    def __init__(self, passing: tuple[type[BaseException], ...]) -> None:
        self._passing = passing
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        try:
            self._show(done, total)
        except self._passing:
            raise
        except BaseException:
            # A front-end that cannot be reached is no reason to stop.
            self._bar = None
        check_cancelled()

    def _show(self, done: int, total: int) -> None:
        import comfy.utils

        if self._bar is None and done < total:
            self._bar = comfy.utils.ProgressBar(total)
        if self._bar is not None:
            self._bar.update_absolute(done, total)


def destroying(hosting: Any, facts: Facts, node: str) -> Any:
    """What may be destroyed: what neither the workflow nor ComfyUI itself holds."""
    import comfy.model_management as management

    why = facts.cannot_destroy()
    if why is not None:
        raise RuntimeError(f"it is not known what ComfyUI's executor holds: {why}")
    library = hosting.destroying
    loaded = [entry.model for entry in management.current_loaded_models]
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    return hosting.Destroying(
        facts.storages,
        [*library.constants(_is_of_a_pack), loaded, facts.staying()],
        library.frames_of(_is_of_the_executor),
        f"its memory was taken by MemSweep node {node} (Purge ALL, leftovers: destroy) at {when}; "
        "connect it to the sweep, or restart the pack's loader",
        _is_of_a_pack,
    )


def _is_of_a_pack(module: ModuleType) -> bool:
    """Whether a module belongs to somebody's nodes. Ours hold nothing between sweeps."""
    import folder_paths

    file = getattr(module, "__file__", None)
    if file is None:
        return False
    folders = folder_paths.get_folder_paths("custom_nodes")
    # A pack is often a link to where its author works on it.
    return any(
        place(str(file)).startswith(place(folder) + os.sep)
        for folder in folders
        for place in (os.path.abspath, os.path.realpath)
    )


# Functions that wait for this node and hold its inputs, the caches and the prompt.
_EXECUTOR = ("execution", "asyncio", "threading", "main", "__main__", "memsweep")


def _is_of_the_executor(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    ours = __name__.partition(".comfy_host")[0]
    return name.partition(".")[0] in _EXECUTOR or name.startswith(ours)
