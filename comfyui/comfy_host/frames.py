"""The frames of ComfyUI's executor around our node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from types import FrameType


def execute_frames() -> Iterator[FrameType]:
    """Those of the function that runs a node, the innermost first."""
    code = getattr(getattr(sys.modules.get("execution"), "execute", None), "__code__", None)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # Packs that wrap `execute` leave the original's name and file to go by.
        name, file = frame.f_code.co_name, os.path.basename(frame.f_code.co_filename)
        if frame.f_code is code or (name, file) == ("execute", "execution.py"):
            yield frame
        frame = frame.f_back


def wants_lists(names: Iterable[str]) -> bool:
    """Whether the executor, which is just asking, should hand over whole lists.

    Item by item, an empty list cannot be passed at all, and a short one would come out as long as
    the longest. As whole lists, one blocked item would block all the others. So: lists, unless an
    item is blocked.
    """
    values = sys._getframe(2).f_locals.get("input_data_all")
    if not isinstance(values, dict):
        return False
    data = [values[name] for name in names if isinstance(values.get(name), list)]
    blocked = any(type(item).__name__ == "ExecutionBlocker" for items in data for item in items)
    return not blocked and any(len(items) != 1 for items in data)
