"""Who else is working with a model: other threads, and prompts of other executors.

ComfyUI loads a model when a node begins to use it. Whoever computes with it on another thread does
not load it again, and would go on with weights that an unload took the patches out of: a different result,
and no error. Nobody announces such a use, so it is looked for.

What another thread holds is in its frames, and what it computes with is in a variable of one of
them. Before Python 3.13, asking a frame for `f_locals` changes the variables under whoever runs it, so
they are read natively, which leaves no trace. Threads that plainly wait for work are left out.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

from .hook import current

# A thread in one of these has nothing to do: `threading` and the like wait for work.
_WAITING = ("threading", "queue", "selectors", "concurrent", "asyncio", "multiprocessing", "socketserver")

# ComfyUI's own threads, as files and folders beside its `execution.py`, and the one that draws the
# sampler's progress bar. They hold no models.
_SERVER = ("main.py", "server.py", "app" + os.sep)
_PROGRESS = "tqdm._monitor"


def users(hosting: Any, patchers: Sequence[Any]) -> list[str | None]:
    """Who else is using each of these models, in words; None where nobody is."""
    holders = [*_held_by_tasks(), *_held_by_frames(hosting)]
    holders = [(who, values) for who, values in holders if values]
    groups = [_parts(patcher) for patcher in patchers]
    found: list[str | None] = [None] * len(groups)
    if not holders:
        return found
    reached = hosting.reach_many([values for _, values in holders], _types(groups))
    for (who, _), parts in zip(holders, reached, strict=True):
        held = {id(part) for part in parts}
        for number, group in enumerate(groups):
            if any(id(part) in held for part in group):
                found[number] = who
    return found


def _held_by_frames(hosting: Any) -> list[tuple[str, list[Any]]]:
    """What the variables of busy threads hold, and those of an executor around ours, which waits for a
    node of its own and goes on with what it holds."""
    found = [
        (f"thread {name!r}", _variables(hosting, _callers(frame)))
        for name, frame in _busy_threads()
    ]
    outer = _outer_frames()
    if outer:
        found.append(("an outer prompt", _variables(hosting, outer)))
    return found


def _variables(hosting: Any, frames: Iterable[FrameType]) -> list[Any]:
    return [value for frame in frames for value in hosting.variables(frame).values()]


def _parts(patcher: Any) -> list[Any]:
    """What somebody may hold of a model: the patcher, what all its clones share, or a layer of that."""
    model = patcher.model
    modules = getattr(model, "modules", None)
    return [patcher, model, *(modules() if callable(modules) else ())]


def _types(groups: list[list[Any]]) -> tuple[type, ...]:
    return tuple({type(part) for group in groups for part in group})


def _busy_threads() -> list[tuple[str, FrameType]]:
    """Names and frames of the threads that may be computing."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    return [
        (names.get(ident, "without a name"), frame)
        for ident, frame in sys._current_frames().items()
        if ident != own and not _waits_for_work(frame)
    ]


def _waits_for_work(frame: FrameType) -> bool:
    """Whether the thread is in one of Python's own waits, called by nothing but Python and ComfyUI's server.
    Anybody else's code may be waiting in the middle of its work."""
    if _module(frame).partition(".")[0] not in _WAITING:
        return False
    return all(
        _module(caller).partition(".")[0] in sys.stdlib_module_names
        or _module(caller) == _PROGRESS
        or _is_of_the_server(caller)
        for caller in _callers(frame)
    )


def _is_of_the_server(frame: FrameType) -> bool:
    execution = getattr(sys.modules.get("execution"), "__file__", None)
    if execution is None:
        return False
    root = os.path.dirname(os.path.abspath(execution)) + os.sep
    file = os.path.abspath(frame.f_code.co_filename)
    return file.startswith(tuple(root + name for name in _SERVER))


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _callers(frame: FrameType) -> Iterator[FrameType]:
    """The frame, and those that wait for it."""
    at: FrameType | None = frame
    while at is not None:
        yield at
        at = at.f_back


def _outer_frames() -> list[FrameType]:
    """Frames of this thread that belong to an executor around the one that runs our node."""
    prompt = current()
    # When our prompt has ended, its frame is gone.
    inner = 0 if prompt is not None and prompt.is_over else 1
    executors = 0
    found: list[FrameType] = []
    for frame in _callers(sys._getframe(1)):
        executors += _runs_a_prompt(frame.f_code)
        if executors > inner:
            found.append(frame)
    return found


def _runs_a_prompt(code: CodeType | None) -> bool:
    name, file = ("", "") if code is None else (code.co_name, os.path.basename(code.co_filename))
    return (name, file) == ("execute_async", "execution.py")


def _held_by_tasks() -> list[tuple[str, list[Any]]]:
    """What waits in the event loop that we run in, which no frame shows: prompts of other executors, nodes of
    our own prompt that are asynchronous, and what packs began there."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    current = asyncio.current_task(loop)
    prompts: list[Any] = []
    others: list[Any] = []
    for task in asyncio.all_tasks(loop):
        steps = [] if task is current else list(_steps(task.get_coro()))
        is_prompt = any(_runs_a_prompt(getattr(step, "cr_code", None)) for step in steps)
        (prompts if is_prompt else others).extend(steps)
    return [("another prompt", prompts), ("an asynchronous node", others)]


def _steps(coroutine: Any) -> Iterator[Any]:
    """A coroutine, and those that it waits for."""
    step = coroutine
    while step is not None:
        yield step
        step = getattr(step, "cr_await", None)
