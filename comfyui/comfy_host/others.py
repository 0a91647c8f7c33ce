"""Who else is working with a model: other threads, and prompts of other executors.

ComfyUI loads a model when a node begins to use it. Whoever computes with it on another thread does
not load it again, and would go on with weights that an unload took the patches out of: another
result, and no error. Nobody announces such a use, so it is looked for.

What another thread holds is in its frames. Before Python 3.13, asking a frame for its variables
changes them under whoever runs it. So the native walk is asked: it counts references, and
finds those that only a frame can hold. It takes a tenth of a second and more, so it is made only when
some thread is not plainly waiting for work.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType, MethodType
from typing import Any

# A thread in one of these has nothing to do: `threading` and the like wait for work.
_WAITING = ("threading", "queue", "selectors", "concurrent", "asyncio", "multiprocessing", "socketserver")

# ComfyUI's own threads, as files and folders beside its `execution.py`, and the one that draws the
# sampler's progress bar. They hold no models.
_SERVER = ("main.py", "server.py", "app" + os.sep)
_PROGRESS = "tqdm._monitor"


def users(hosting: Any, patchers: Sequence[Any], host: Any) -> list[str | None]:
    """Who else is using each of these models, in words; None where nobody is.

    `host` is what the sweep that called us holds in native code, and that is no use.
    """
    prompts = _prompts_of_our_loop()
    frames, is_nested = _own_frames()
    # Of several, the walk does not say which one holds a model.
    others = [f"thread {name!r}" for name in _busy_threads()] + ["an outer prompt"] * is_nested
    groups = [_parts(patcher) for patcher in patchers]
    found: list[str | None] = [None] * len(groups)
    if prompts:
        reached = {id(part) for part in hosting.reach_many([prompts], _types(groups))[0]}
        for number, group in enumerate(groups):
            if any(id(part) in reached for part in group):
                found[number] = "another prompt"
        del reached
    if others:
        objects = [part for group in groups for part in group]
        is_held = iter(hosting.pinned(objects, frames, [*_called(hosting, host, frames), *_taken_results(hosting, frames)]))
        for number, group in enumerate(groups):
            if any([next(is_held) for _ in group]):
                found[number] = others[0] if len(others) == 1 else "another thread"
    return found


def _parts(patcher: Any) -> list[Any]:
    """What somebody may hold of a model: the patcher, what all its clones share, or a layer of that."""
    model = patcher.model
    modules = getattr(model, "modules", None)
    return [patcher, model, *(modules() if callable(modules) else ())]


def _types(groups: list[list[Any]]) -> tuple[type, ...]:
    return tuple({type(part) for group in groups for part in group[:2]})


def _busy_threads() -> list[str]:
    """Names of the threads that may be computing."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    return [
        names.get(ident, "without a name")
        for ident, frame in sys._current_frames().items()
        if ident != own and not _waits_for_work(frame)
    ]


def _waits_for_work(frame: FrameType) -> bool:
    """Whether the thread stands in a wait of Python's own, called by nothing but Python and ComfyUI's
    server. A wait that somebody else's code is in may be one in the middle of its work."""
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


def _own_frames() -> tuple[list[FrameType], bool]:
    """Frames of this thread that wait for our node, and whether there are others: those of an executor
    around ours wait for a node of its own, which goes on with what it holds."""
    found: list[FrameType] = []
    executors = 0
    for frame in _callers(sys._getframe(1)):
        executors += _runs_a_prompt(frame.f_code)
        if executors > 1:
            return found, True
        found.append(frame)
    return found, False


def _runs_a_prompt(code: CodeType | None) -> bool:
    name, file = ("", "") if code is None else (code.co_name, os.path.basename(code.co_filename))
    return (name, file) == ("execute_async", "execution.py")


def _prompts_of_our_loop() -> list[Any]:
    """Prompts of other executors that wait in the event loop we run in: no frame shows them."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    current = asyncio.current_task(loop)
    found = []
    for task in asyncio.all_tasks(loop):
        step: Any = None if task is current else task.get_coro()
        while step is not None:
            if _runs_a_prompt(getattr(step, "cr_code", None)):
                found.append(step)
            step = getattr(step, "cr_await", None)
    return found


def _called(hosting: Any, host: Any, frames: list[FrameType]) -> list[Any]:
    """The host and the executor around it, with the methods and arguments of the calls under way: packs
    wrap the executor's methods, and such a call holds `self` where no walk can look."""
    executors = [
        hosting.variables(frame).get("self") for frame in frames if _runs_a_prompt(frame.f_code)
    ]
    owners = [host, *(executor for executor in executors if executor is not None)]
    holders = gc.get_referrers(*owners)
    return owners + [one for one in holders if type(one) in (MethodType, tuple, dict)]


def _taken_results(hosting: Any, frames: list[FrameType]) -> list[Any]:
    """Futures whose results the executor has long taken, and the arguments they were passed on in.

    The event loop's own call holds the last one for as long as the executor does not wait again, and
    with it every output that the prompt found in the cache: as if somebody were using them all.
    """
    lists = [
        value
        for frame in frames
        if _runs_a_prompt(frame.f_code)
        for value in hosting.variables(frame).values()
        if type(value) is list
    ]
    # By type: an object may lie about its class, and run code to do it.
    futures = [
        holder
        for holder in gc.get_referrers(*lists)
        if issubclass(type(holder), asyncio.Future) and holder.done()
    ]
    passed = [holder for holder in gc.get_referrers(*futures) if type(holder) is tuple]
    return [*futures, *passed]
