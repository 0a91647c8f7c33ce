"""Takes the memory of tensors that somebody still holds, loudly.

A destroyed tensor keeps its identity, shape, type and device. Whatever computes with it raises
`DestroyedError`, which says who did it, when, and what to do. A tensor on the meta device, or an empty one, would
compute garbage without an error instead.
"""

from __future__ import annotations

import sys
import sysconfig
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, ModuleType
from typing import Any

from memsweep import _memsweep, torch_host

SMALLEST_BLOCK = 2**20


class DestroyedError(RuntimeError):
    """A tensor was used whose memory a sweep at level `destroy` had taken."""


def destroy(
    keep: set[tuple[str, int]],
    constants: list[Any],
    frames: list[FrameType],
    message: str,
    is_owner: Callable[[ModuleType], bool],
) -> dict[str, Any]:
    """Destroys what nobody protects, and answers with the outcome of the step.

    `keep`: device and address of memory that stays. `constants`: objects that stay, with what they
    reach. `frames`: frames of this thread whose variables do not protect. `message`: what a use
    says. `is_owner`: which modules can be named as owners.
    """
    torch = torch_host.loaded()
    if torch is None:
        return torch_host.nothing("torch is not in use")
    types = torch_host.memory_types()
    found = _memsweep.candidates(constants, types, frames)
    groups, refused = _groups(torch, found.hits, keep)
    del found
    names = _owner_names(groups, is_owner)
    owners: dict[str, list[int]] = {}
    for key, group in groups.items():
        count = len(group.tensors)
        reason = _swap_all(torch, group.tensors, message)
        if reason is not None:
            _note(refused, reason, group.size)
            continue
        row = owners.setdefault(names.get(key, "unknown"), [0, 0])
        row[0] += count
        row[1] += group.size
    if not owners and not refused:
        return torch_host.nothing("no tensor of 1 MiB is left that nobody needs")
    return {
        "kind": "destroyed",
        "owners": [
            {"name": name, "tensors": tensors, "bytes": size}
            for name, (tensors, size) in sorted(owners.items(), key=lambda row: -row[1][1])
        ],
        "refused": [
            {"reason": reason, "blocks": blocks, "bytes": size}
            for reason, (blocks, size) in refused.items()
        ],
    }


class _Group:
    """All tensors that share one block of memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tensors: list[Any] = []


def _groups(
    torch: Any, hits: list[Any], keep: set[tuple[str, int]]
) -> tuple[dict[tuple[str, int], _Group], dict[str, list[int]]]:
    groups: dict[tuple[str, int], _Group] = {}
    refused: dict[str, list[int]] = {}
    shared = set()
    for value in hits:
        block = torch_host.block_of(value)
        if block is None or block[2] < SMALLEST_BLOCK or block[:2] in keep:
            continue
        if isinstance(value, torch.Tensor):
            groups.setdefault(block[:2], _Group(block[2])).tensors.append(value)
        else:
            # An array cannot be marked, and one that shows a tensor's memory must keep it.
            shared.add((*block[:2], block[2]))
    for device, address, size in shared:
        groups.pop((device, address), None)
        _note(refused, "numpy arrays hold it", size)
    for key, group in list(groups.items()):
        reason = _refused(torch, group.tensors)
        if reason is not None:
            del groups[key]
            _note(refused, reason, group.size)
    return groups, refused


def _refused(torch: Any, tensors: list[Any]) -> str | None:
    for tensor in tensors:
        with torch._C.DisableTorchFunctionSubclass():
            storage = torch._C.TensorBase.untyped_storage(tensor)
        if not storage.resizable():
            return "not torch's own memory"
        if weakref.getweakrefcount(tensor):
            return "weak references to it exist"
    if torch_host.is_page_locked(tensors[0]):
        return "page-locked"
    return None


def _note(rows: dict[str, list[int]], reason: str, size: int) -> None:
    row = rows.setdefault(reason, [0, 0])
    row[0] += 1
    row[1] += size


def _swap_all(torch: Any, tensors: list[Any], message: str) -> str | None:
    """All of them or none: a reason is returned when one could not be exchanged."""
    views, owners = [], []
    held: dict[int, int] = {}
    for tensor in tensors:
        base = torch._C.TensorBase._base.__get__(tensor)
        (owners if base is None else views).append(tensor)
        held[id(base)] = held.get(id(base), 0) + 1
        del base
    # A view holds the tensor it shows, so that can only be exchanged once its views were.
    if any(held.get(id(owner), 0) and _uses(torch, owner) > 1 + held[id(owner)] for owner in owners):
        return "in use by torch itself"
    for batch in (views, owners):
        marks = _swap_batch(torch, batch, message)
        if marks is None:
            return "in use by torch itself"
        # The marks hold the memory now, and it goes with them.
        del marks
    return None


def _uses(torch: Any, tensor: Any) -> int:
    return int(torch._C.TensorBase._use_count(tensor))


def _swap_batch(torch: Any, tensors: list[Any], message: str) -> list[Any] | None:
    done: list[tuple[Any, Any]] = []
    for tensor in tensors:
        mark = _mark(torch, tensor, message)
        try:
            torch.utils.swap_tensors(tensor, mark)
        except RuntimeError:
            for earlier, old in reversed(done):
                torch.utils.swap_tensors(earlier, old)
            return None
        done.append((tensor, mark))
    return [mark for _, mark in done]


_CLASSES: list[type] = []


def _mark(torch: Any, tensor: Any, message: str) -> Any:
    if not _CLASSES:
        _CLASSES.append(_make_class(torch))
    mark = _CLASSES[0]._make_wrapper_subclass(  # type: ignore[attr-defined]
        _CLASSES[0], tensor.shape, dtype=tensor.dtype, device=tensor.device
    )
    mark.memsweep = message
    return mark


def _make_class(torch: Any) -> type:
    tensor_base = torch._C.TensorBase
    # What describes a tensor stays true; nothing is computed from it.
    harmless = {
        getattr(tensor_base, name).__get__
        for name in ("shape", "dtype", "device", "layout", "requires_grad", "is_leaf", "grad",
                     "grad_fn", "ndim", "is_cpu", "is_cuda", "is_meta", "is_sparse", "is_quantized")
    } | {
        getattr(torch.Tensor, name)
        for name in ("size", "dim", "stride", "numel", "nelement", "element_size",
                     "is_floating_point", "is_complex", "is_contiguous", "get_device")
    }

    def refuse(arguments: Iterable[Any]) -> None:
        raise DestroyedError(next(_messages(arguments, Destroyed), "a tensor was destroyed"))

    class Destroyed(torch.Tensor):  # type: ignore[misc]
        """A tensor without memory. Using it raises `DestroyedError`."""

        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function in harmless:
                with torch._C.DisableTorchFunctionSubclass():
                    return function(*args, **(kwargs or {}))
            return refuse([*args, *(kwargs or {}).values()])

        @classmethod
        def __torch_dispatch__(
            cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return refuse([*args, *(kwargs or {}).values()])

        def __repr__(self, **_: Any) -> str:
            return f"<destroyed tensor: {self.__dict__.get('memsweep')}>"

        def __reduce_ex__(self, protocol: Any) -> Any:
            return refuse([self])

        def __deepcopy__(self, memo: Any) -> Any:
            return refuse([self])

    return Destroyed


def _messages(values: Iterable[Any], kind: type) -> Iterator[str]:
    for value in values:
        if isinstance(value, kind):
            yield str(value.__dict__.get("memsweep"))
        elif isinstance(value, (list, tuple)):
            yield from _messages(value, kind)


def _owner_names(
    groups: dict[tuple[str, int], _Group], is_owner: Callable[[ModuleType], bool]
) -> dict[tuple[str, int], str]:
    """Which module's global leads to each block, where one does."""
    wanted = {id(tensor): key for key, group in groups.items() for tensor in group.tensors}
    types = torch_host.memory_types()
    names: dict[tuple[str, int], str] = {}
    for module in _modules():
        if not is_owner(module):
            continue
        for name, value in list(vars(module).items()):
            if issubclass(type(value), ModuleType):
                continue
            is_class = issubclass(type(value), type)
            roots = list(vars(value).values()) if is_class else [value]
            label = f"{'class' if is_class else 'global'} {name}"
            for hit in _memsweep.reach(roots, types):
                key = wanted.get(id(hit))
                if key is not None:
                    names.setdefault(key, f"{label} of {module.__name__}")
    return names


def constants(is_owner: Callable[[ModuleType], bool]) -> list[Any]:
    """What the globals and classes of Python's, torch's and other libraries' modules hold."""
    found: list[Any] = []
    for module in _modules():
        if is_owner(module):
            continue
        for value in list(vars(module).values()):
            # By type: an object may lie about its class, and run code to do it.
            if issubclass(type(value), type):
                if getattr(value, "__module__", None) == module.__name__:
                    found.extend(vars(value).values())
            elif not issubclass(type(value), ModuleType):
                found.append(value)
    return found


def is_of_the_program(module: ModuleType) -> bool:
    """Whether a module is the user's own: neither of Python nor installed beside it."""
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__":
        return True
    if file is None:
        return False
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not str(file).startswith(tuple(path for path in installed if path))


def frames_of(is_explained: Callable[[FrameType], bool]) -> list[FrameType]:
    """Frames of this thread whose variables do not protect what they hold."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_explained(frame):
            found.append(frame)
        frame = frame.f_back
    return found


def _modules() -> list[ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
