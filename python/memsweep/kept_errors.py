"""Memory that an error keeps: its traceback holds the variables of every function it passed.

An interactive Python keeps the last error nobody caught; a handler keeps the one it handles. Frames
are asked by the collector's own traversal: reading their `f_locals` would keep more alive.
"""

from __future__ import annotations

import builtins
import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType, TracebackType
from typing import Any

from memsweep import _memsweep, torch_host
from memsweep.outcomes import note

# Less is not worth a sentence.
_LEAST = 1 << 20
# At some 50 000 objects a second, a traceback through a whole model costs 0.2 s.
_MOST_OBJECTS = 10_000
_MOST_ITEMS = 100_000


def notes() -> list[dict[str, Any]]:
    """A note for each place that keeps 1 MiB or more alive by an error."""
    found = []
    kept = [name for name in ("last_exc", "last_value", "last_traceback") if _sys(name) is not None]
    if kept:
        roots = [_sys(name) for name in kept]
        shell = hasattr(builtins, "get_ipython")
        size, devices = _kept([*roots, *_frames(roots)] if shell else roots)
        if size >= _LEAST:
            names = [f"sys.{name}" for name in kept]
            found.append(note("kept_by_last_error", bytes=size, names=names, shell=shell, **devices))
    for thread, error in _handled():
        # Up to 3.10 the interpreter holds the traceback beside the error.
        size, devices = _kept([error, _traceback(error)])
        if size >= _LEAST:
            name = None if thread == threading.get_ident() else _name(thread)
            found.append(note("kept_by_handled_error", bytes=size, thread=name, **devices))
    return found


def _kept(roots: list[Any]) -> tuple[int, dict[str, dict[str, int]]]:
    """Bytes in all, and what a note says of those on devices."""
    sizes = only_through(roots)
    on_devices = {device: size for device, size in sizes.items() if device != "cpu"}
    return sum(sizes.values()), {"devices": on_devices} if on_devices else {}


def only_through(roots: list[Any]) -> dict[str, int]:
    """Bytes by device in tensors, arrays and byte strings that nothing else in Python refers to.

    The roots themselves count as released. A lower bound: what is too far away is not looked at, and what
    has a reference that was not met on the way counts as held by something else.
    """
    members, met = _reached(roots)
    held = _held_otherwise(members, met, {id(root) for root in roots})
    blocks: dict[tuple[str, int], int] = {}
    sharing: dict[tuple[str, int], int] = {}
    memory = _memory()
    given_up = [
        value
        for key, value in members.items()
        if key not in held and _is(value, memory) and _has_its_own(value, held)
    ]
    for value, block in zip(given_up, _blocks(given_up), strict=True):
        if block is not None:
            place = block[:2]
            blocks[place] = block[2]
            sharing[place] = sharing.get(place, 0) + 1
            others = torch_host.storage_users(value)
            if others is None or others > sharing[place]:
                # Taken back until as many tensors were met as share the memory.
                blocks[place] = 0
    sizes: dict[str, int] = {}
    for (device, _), size in blocks.items():
        if size >= _LEAST:
            sizes[device] = sizes.get(device, 0) + size
    return sizes


def _frames(roots: list[Any]) -> list[Any]:
    """Tracebacks and frames of errors. IPython keeps these too, each by itself."""
    found = []
    for root in roots:
        step = root if _is(root, (TracebackType,)) else _traceback(root)
        while step is not None:
            found += [step, step.tb_frame]
            step = step.tb_next
    borders = _borders()
    return [each for each in found if id(each) not in borders]


def _traceback(error: Any) -> TracebackType | None:
    if not _is(error, (BaseException,)):
        return None
    # Its class may have an attribute of that name that runs arbitrary code.
    found: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return found


def _reached(roots: list[Any]) -> tuple[dict[int, Any], dict[int, int]]:
    """Objects that the roots lead to, by id, and how many references to each were met."""
    borders = _borders()
    kinds = _Kinds()
    members: dict[int, Any] = {id(root): root for root in roots if root is not None}
    met: dict[int, int] = {}
    queue = list(members.values())
    for value in queue:
        for other in _referents(value):
            key = id(other)
            if key in met:
                met[key] += 1
            elif key in members:
                met[key] = 1
            elif len(queue) < _MOST_OBJECTS and key not in borders and kinds[type(other)](other):
                members[key] = other
                queue.append(other)
                met[key] = 1
    return members, met


class _Kinds(dict[type, Callable[[object], bool]]):
    """Whether to look at an object, by its type; each type is judged once."""

    def __missing__(self, kind: type) -> Callable[[object], bool]:
        judge: Callable[[object], bool]
        if issubclass(kind, (type, ModuleType)):
            judge = _never
        elif kind in (dict, tuple) or issubclass(kind, _memory()):
            # The collector does not track a dict or tuple that holds nothing it tracks, such as bytes.
            judge = _always
        else:
            judge = gc.is_tracked
        self[kind] = judge
        return judge


def _never(_: object) -> bool:
    return False


def _always(_: object) -> bool:
    return True


def _held_otherwise(members: dict[int, Any], met: dict[int, int], roots: set[int]) -> set[int]:
    """Which of them have references that were not met, and all that those refer to."""
    # What our own looking adds is the same for every object.
    (mine,) = map(sys.getrefcount, {0: object()}.values())
    counts = zip(members, map(sys.getrefcount, members.values()))
    held = {key for key, count in counts if count - mine > met.get(key, 0)} - roots
    queue = list(held)
    for key in queue:
        for other in _referents(members[key]):
            if id(other) in members and id(other) not in held and id(other) not in roots:
                held.add(id(other))
                queue.append(id(other))
    return held


def _referents(value: object) -> list[Any]:
    # By exact type: the length of another class may be arbitrary code.
    if type(value) in (list, tuple, dict, set, frozenset) and len(value) > _MOST_ITEMS:  # type: ignore[arg-type]
        return []
    if gc.is_tracked(value) or type(value) in (dict, tuple):
        return gc.get_referents(value)
    # An array does not tell the collector whose memory it shows.
    base = torch_host.base_of(value)
    return gc.get_referents(value) if base is None else [base]


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    """`isinstance` asks the object, which may run arbitrary code."""
    return issubclass(type(value), kinds)


def _memory() -> tuple[type, ...]:
    return (*_memsweep.memory_types(), bytes, bytearray)


def _borders() -> set[int]:
    """What belongs to the whole program: globals of modules, and the frames that are running."""
    modules = [module for module in list(sys.modules.values()) if _is(module, (ModuleType,))]
    borders = {id(vars(ModuleType)["__dict__"].__get__(module)) for module in modules}
    running: list[FrameType | None] = list(sys._current_frames().values())
    while running:
        frame = running.pop()
        if frame is not None:
            borders.update((id(frame), id(frame.f_globals), id(frame.f_builtins)))
            running.append(frame.f_back)
    # The last one seen is None: a frame that a variable of its own refers to would stay, with ours.
    return borders


def _has_its_own(value: object, held: set[int]) -> bool:
    """Whether memory goes with the object, not with what an array shows."""
    base = torch_host.base_of(value)
    while base is not None:
        # The memory of another kind of object, such as `bytes`, is counted with that.
        if id(base) in held or not _is(base, _memsweep.memory_types()):
            return False
        base = torch_host.base_of(base)
    return True


def _blocks(values: list[Any]) -> list[tuple[str, int, int] | None]:
    """Device, place and size of the memory of each."""
    try:
        found = _memsweep.blocks(values)
    except Exception:
        # A sweep says so where it matters; a note is not worth its end.
        found = [None] * len(values)
    return [
        ("cpu", id(value), len(value)) if _is(value, (bytes, bytearray)) else block
        for value, block in zip(values, found, strict=True)
    ]


def _handled() -> list[tuple[int, BaseException]]:
    """The error that each thread is handling. 3.10 cannot report it for other threads."""
    current = getattr(sys, "_current_exceptions", None)
    if current is None:
        error = sys.exc_info()[1]
        return [] if error is None else [(threading.get_ident(), error)]
    found = []
    for thread, error in current().items():
        # Up to 3.11 it is what `sys.exc_info` answers.
        error = error[1] if isinstance(error, tuple) else error
        if isinstance(error, BaseException):
            found.append((thread, error))
    return found


def _name(identity: int) -> str:
    # `threading.enumerate` takes a lock, which a signal handler may have interrupted.
    thread = getattr(threading, "_active", {}).get(identity)
    if isinstance(thread, threading.Thread):  # noqa: TID251  none is started
        return ascii(thread.name)
    return str(identity)


def _sys(name: str) -> Any:
    return getattr(sys, name, None)
