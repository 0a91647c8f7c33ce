"""What an object reaches, the slow and plain way: the second opinion on MemSweep's walk.

Nothing here calls MemSweep.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable

BOUNDARY = (type, types.ModuleType, types.FrameType, types.CodeType, types.TracebackType)


def closure(roots: Iterable[object], leave_out: Iterable[object] = ()) -> dict[int, object]:
    """Everything the roots reach, by id. Types, modules, frames and globals are not entered.

    `leave_out` is not entered either, and not in the answer.
    """
    found: dict[int, object] = {}
    closed = {id(item) for item in leave_out}
    stack = list(roots)
    while stack:
        item = stack.pop()
        if id(item) in found or id(item) in closed:
            continue
        found[id(item)] = item
        if isinstance(item, BOUNDARY):
            continue
        if isinstance(item, types.FunctionType):
            held = [item.__closure__, item.__defaults__, item.__kwdefaults__, item.__dict__]
            stack += [part for part in held if part is not None]
        else:
            stack += gc.get_referents(item)
    return found
