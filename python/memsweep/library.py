"""The functions a program calls. Decisions are made in Rust; see `memsweep._memsweep`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from memsweep import _memsweep
from memsweep.facts import Storages
from memsweep.torch_host import TorchHost


class Host(Protocol):
    """What a sweep asks of the program it runs in."""

    def devices(self) -> str:
        """JSON list of device rows; never creates a device context."""
        ...

    def release(self, action: str) -> str:
        """Carries out one action (JSON) and answers with its outcome (JSON)."""
        ...

    def check_cancelled(self) -> None:
        """Raises when the user cancelled."""
        ...


def reading() -> _memsweep.Reading:
    """Reads the memory of process, machine and devices.

    Sizes are bytes, and `None` means "could not be read", never 0. Costs about a millisecond and
    creates no device context: a GPU that nobody uses stays untouched. Sources: `/proc` and the
    cgroup on Linux, the driver (NVML, amdgpu) and torch for devices. Raises nothing.
    """
    return _memsweep.read(TorchHost())


def sweep(
    protect: Sequence[object] = (),
    level: str = "collect",
    goal: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    system_wide: bool = False,
) -> _memsweep.Report:
    """Gives memory back and reports what was measured.

    `protect`: objects in use; whatever they reach is never touched.
    `level`: `trim` (allocator slack) or `collect` (also unreachable cycles). The deeper levels
    need a program that manages models or caches, such as ComfyUI; here they do the same as
    `collect`, and the report says so.
    `goal`: stop as soon as it holds, one of `{"ram_available": bytes}`,
    `{"process_anonymous": bytes}` or `{"device_free": {"device": "cuda:0", "bytes": bytes}}`.
    `dry_run`: plan and report, release nothing.
    `system_wide`: also drop the machine's page cache (Linux, needs root) or page out this process
    (Windows). Never counted as freed.

    Raises `ValueError` for a level or goal that does not exist. A step that fails is a row of the
    report, not an exception.
    """
    settings = {"level": level, "goal": goal, "system_wide": system_wide, "dry_run": dry_run}
    inventory: dict[str, Any] = {}
    if _memsweep.level_of(json.dumps(settings)) not in ("trim", "collect"):
        inventory = _inventory_of(list(protect))
    return sweep_with(TorchHost(), settings, inventory)


def sweep_with(
    host: Host, settings: Mapping[str, Any], inventory: Mapping[str, Any]
) -> _memsweep.Report:
    """Runs a sweep on a host of your own, with an inventory it described."""
    return _memsweep.sweep(json.dumps(settings), json.dumps(inventory), host)


def _inventory_of(protect: list[object]) -> dict[str, Any]:
    storages = Storages()
    reached = _memsweep.reach(protect, storages.types())
    connected = storages.numbers(reached)
    return {
        "storages": storages.facts,
        "connected": {"storages": connected, "models": []},
        "notes": [
            "no model manager and no output cache in this program: models and cached outputs "
            "are freed by dropping your own references"
        ],
    }
