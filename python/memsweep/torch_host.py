"""The only file that knows torch: readings and releases of its devices.

Torch is never imported here: a program that has not loaded it has no tensors. A device is read or
synchronised only where torch already has a context on it, because the first call of that kind
costs hundreds of megabytes of VRAM for the rest of the process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any


def loaded() -> ModuleType | None:
    """Torch, if the program has loaded it."""
    torch = sys.modules.get("torch")
    # A module that is still being imported has no tensors yet either, and a stand-in of a test never.
    return torch if _has_class(torch, "Tensor") and hasattr(torch, "_C") else None


def inference_mode() -> AbstractContextManager[Any]:
    """Torch's inference mode, in which ComfyUI's nodes run; nothing where torch is not loaded."""
    torch = loaded()
    return nullcontext() if torch is None else torch.inference_mode()


def _numpy() -> ModuleType | None:
    numpy = sys.modules.get("numpy")
    return numpy if _has_class(numpy, "ndarray") else None


def _has_class(module: ModuleType | None, name: str) -> bool:
    return isinstance(getattr(module, name, None), type)


def base_of(value: object) -> object | None:
    """What an array's memory belongs to, if that is not the array itself."""
    numpy = _numpy()
    if numpy is None or not issubclass(type(value), numpy.ndarray):
        return None
    base: object | None = numpy.ndarray.base.__get__(value)
    return base


def storage_users(value: object) -> int | None:
    """How many tensors and the like share a tensor's memory, itself included. 0 for anything else.

    `None` where torch cannot tell: anyone may use memory that it did not allocate.
    """
    torch = loaded()
    if torch is None or not issubclass(type(value), torch.Tensor):
        return 0
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None:
        return None
    with torch._C.DisableTorchFunctionSubclass():
        storage = torch._C.TensorBase.untyped_storage(value)
        # The storage that we hold here is one of them.
        return int(count(storage._cdata)) - 1 if storage.resizable() else None


def _cuda_devices(torch: ModuleType) -> Iterator[int]:
    """Indices of CUDA or ROCm devices that have a context in this process."""
    # Asks nobody but torch; `is_available` would already start the driver.
    if not torch.cuda.is_initialized():
        return
    has_context = getattr(torch._C, "_cuda_hasPrimaryContext", None)
    for index in range(torch.cuda.device_count()):
        if has_context is None or has_context(index):
            yield index


def _cuda_row(torch: ModuleType, index: int) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"cuda:{index}", "source": "torch"}
    properties = torch.cuda.get_device_properties(index)
    row["name"] = properties.name
    row["total"] = properties.total_memory
    if hasattr(properties, "pci_bus_id"):
        domain = getattr(properties, "pci_domain_id", 0)
        row["pci"] = f"{domain:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    if hasattr(properties, "uuid"):
        # Torch has reported it for longer than the address.
        row["uuid"] = str(properties.uuid).lower()
    try:
        free, total = torch.cuda.mem_get_info(index)
        row["driver"] = {"used": total - free}
    except RuntimeError:
        pass
    try:
        row["torch"] = {
            "allocated": torch.cuda.memory_allocated(index),
            "reserved": torch.cuda.memory_reserved(index),
        }
    except RuntimeError:
        # A pluggable allocator keeps no statistics.
        pass
    return row


def _other_rows(torch: ModuleType) -> list[dict[str, Any]]:
    """XPU and MPS devices in use, where torch offers the numbers. Not tried on such a device."""
    rows: list[dict[str, Any]] = []
    try:
        # `is_available` would start the runtime.
        if torch.xpu.is_initialized():
            rows += [
                {
                    "id": f"xpu:{index}",
                    "source": "torch",
                    "torch": {
                        "allocated": torch.xpu.memory_allocated(index),
                        "reserved": torch.xpu.memory_reserved(index),
                    },
                }
                for index in range(torch.xpu.device_count())
            ]
    except (AttributeError, RuntimeError):
        pass
    try:
        # Shown when all of it is free too: what was given back would be unknown otherwise.
        if torch.backends.mps.is_available():
            rows.append(
                {
                    "id": "mps:0",
                    "source": "torch",
                    "torch": {
                        "allocated": torch.mps.current_allocated_memory(),
                        "reserved": torch.mps.driver_allocated_memory(),
                    },
                }
            )
    except (AttributeError, RuntimeError):
        pass
    return rows


def _other_kinds(torch: ModuleType) -> set[str]:
    """Their kinds. MPS says nothing of being started: without memory there, it is not in use."""
    return {
        row["id"].split(":")[0]
        for row in _other_rows(torch)
        if row["id"] != "mps:0" or any(row["torch"].values())
    }


def device_rows() -> list[dict[str, Any]]:
    """One row per device with a context in this process; fields as in a reading."""
    torch = loaded()
    if torch is None:
        return []
    rows = []
    for index in _cuda_devices(torch):
        try:
            rows.append(_cuda_row(torch, index))
        except RuntimeError:
            rows.append({"id": f"cuda:{index}"})
    rows.extend(_other_rows(torch))
    return rows


def _is_capturing(torch: ModuleType) -> bool:
    """Whether a CUDA graph is being captured: by this thread, or by any on torch's own stream."""
    ask = torch.cuda.is_current_stream_capturing
    for index in _cuda_devices(torch):
        # Each device has a current stream of its own.
        with torch.cuda.device(index):
            if ask():
                return True
    # The one that `torch.cuda.graph` captures on unless it is given another.
    stream = getattr(getattr(torch.cuda, "graph", None), "default_capture_stream", None)
    if stream is None:
        return False
    with torch.cuda.stream(stream):
        return bool(ask())


def empty_device_cache() -> int | None:
    """Returns the free blocks of torch's device allocators. Answers how many devices there were;
    `None` during a capture.

    Each waits for what it frees. Waiting for a whole CUDA device, from any thread, would spoil the
    graphs that are being captured on it.
    """
    torch = loaded()
    if torch is None:
        return 0
    count = sum(1 for _ in _cuda_devices(torch))
    if count:
        # With cudaMallocAsync torch does wait for the whole device.
        if _is_capturing(torch):
            return None
        torch.cuda.empty_cache()
        torch.cuda.ipc_collect()
    for kind in _other_kinds(torch):
        getattr(torch, kind).synchronize()
        getattr(torch, kind).empty_cache()
        count += 1
    return count


def empty_host_cache() -> bool | None:
    """Returns free page-locked blocks. `None` when no device is in use, False when torch cannot."""
    torch = loaded()
    if torch is None or not (any(True for _ in _cuda_devices(torch)) or _other_kinds(torch)):
        return None
    accelerator = getattr(torch, "accelerator", None)
    empty = getattr(accelerator, "empty_host_cache", None) or getattr(
        torch._C, "_host_emptyCache", None
    )
    if empty is None:
        return False
    empty()
    return True
