"""Takes the memory of tensors that somebody still holds, loudly.

A destroyed tensor keeps its identity, shape, type and device. Whatever computes with it raises
`DestroyedError`, which says who did it, when, and what to do. A plain tensor on the meta device, or an empty one,
would compute garbage without an error instead.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, ModuleType
from typing import Any

from memsweep import _memsweep, torch_host
from memsweep._memsweep import Storages

# Each query looks at all modules, and its answer holds what was reached.
GLOBALS_AT_ONCE = 256


class DestroyedError(RuntimeError):
    """A tensor was used whose memory a sweep at level `destroy` had taken."""


class Destroying:
    """One destroy step, as the native module asks for it. Holds no tensor."""

    def __init__(
        self,
        storages: Storages | None,
        constants: list[Any],
        frames: list[FrameType],
        message: str,
        is_owner: Callable[[ModuleType], bool],
    ) -> None:
        """`storages`: those of the inventory, `None` where there is none. `constants`: objects that stay, with what
        they reach. `frames`: frames of this thread whose variables do not protect. `message`: what a
        use says. `is_owner`: which modules can be named as owners.
        """
        torch = torch_host.loaded()
        self.types = _memsweep.memory_types()
        self.storages, self.constants, self.frames = storages, constants, frames
        # `None` without torch: then there is nothing to take.
        self.destroyed_class = None if torch is None else _class_of(torch, message)
        self._is_owner = is_owner

    def owner_names(self, smallest: int) -> dict[tuple[str, int], str]:
        """Which module's global leads to memory of at least this size, by device and address."""
        hits = _memsweep.candidates(self.constants, self.types, self.frames).hits
        return _owner_names(hits, self._is_owner, smallest)


_CLASSES: list[type] = []


def _class_of(torch: Any, message: str) -> type:
    """The class that one sweep turns tensors into. The message belongs to the class, so it is there at once."""
    if not _CLASSES:
        _CLASSES.append(_make_class(torch))
    return type("Destroyed", (_CLASSES[0],), {"memsweep": message})


def _make_class(torch: Any) -> type:
    tensor_base = torch._C.TensorBase
    # What describes a tensor stays true; nothing is computed from it.
    harmless = {
        getattr(tensor_base, name).__get__
        for name in ("shape", "dtype", "layout", "requires_grad", "is_leaf", "grad",
                     "grad_fn", "ndim", "is_sparse", "is_quantized")
    } | {
        getattr(torch.Tensor, name)
        for name in ("size", "dim", "stride", "numel", "nelement", "element_size",
                     "is_floating_point", "is_complex", "is_contiguous")
    }
    # Answered from where it was. Torch itself now finds it on the device without memory.
    where: dict[Any, Callable[[Any], Any]] = {
        tensor_base.device.__get__: lambda device: device,
        tensor_base.is_cpu.__get__: lambda device: device.type == "cpu",
        tensor_base.is_cuda.__get__: lambda device: device.type == "cuda",
        tensor_base.is_meta.__get__: lambda device: False,
        torch.Tensor.get_device: lambda device: -1 if device.type == "cpu" else device.index,
    }

    def refuse(arguments: Iterable[Any]) -> None:
        raise DestroyedError(next(_messages(arguments, Destroyed), "a tensor was destroyed"))

    class Destroyed(torch.Tensor):  # type: ignore[misc]
        """A tensor without memory. Using it raises `DestroyedError`."""

        memsweep = "a tensor was destroyed"

        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function in where and args and "memsweep_device" in vars(args[0]):
                return where[function](vars(args[0])["memsweep_device"])
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
            return f"<destroyed tensor: {self.memsweep}>"

        def __reduce_ex__(self, protocol: Any) -> Any:
            return refuse([self])

        def __deepcopy__(self, memo: Any) -> Any:
            return refuse([self])

    return Destroyed


def _messages(values: Iterable[Any], kind: type) -> Iterator[str]:
    for value in values:
        if isinstance(value, kind):
            yield str(value.memsweep)  # type: ignore[attr-defined]
        elif isinstance(value, (list, tuple)):
            yield from _messages(value, kind)


def _owner_names(
    hits: list[Any], is_owner: Callable[[ModuleType], bool], smallest: int
) -> dict[tuple[str, int], str]:
    wanted = {
        id(value): block[:2]
        for value, block in zip(hits, _memsweep.blocks(hits), strict=True)
        if block is not None and block[2] >= smallest
    }
    del hits
    types = _memsweep.memory_types()
    names: dict[tuple[str, int], str] = {}
    places = list(_places(is_owner))
    for start in range(0, len(places), GLOBALS_AT_ONCE):
        batch = places[start : start + GLOBALS_AT_ONCE]
        reached = _memsweep.reach_many([roots for _, roots in batch], types)
        for (label, _), hits in zip(batch, reached, strict=True):
            for hit in hits:
                key = wanted.get(id(hit))
                if key is not None:
                    names.setdefault(key, label)
    return names


def _places(is_owner: Callable[[ModuleType], bool]) -> Iterator[tuple[str, list[Any]]]:
    """Globals and classes of the owners' modules: what to call each, and what it holds."""
    for module in _modules():
        if not is_owner(module):
            continue
        for name, value in list(vars(module).items()):
            if issubclass(type(value), ModuleType):
                continue
            is_class = issubclass(type(value), type)
            roots = list(vars(value).values()) if is_class else [value]
            yield f"{'class' if is_class else 'global'} {name} of {module.__name__}", roots


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
