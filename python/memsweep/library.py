"""The functions a program calls. Decisions are made in Rust; see `memsweep._memsweep`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from memsweep import _memsweep, destroying, kept_errors
from memsweep._memsweep import Storages
from memsweep.host import Host, TorchHost
from memsweep.outcomes import note
from memsweep.parking import Meant, Parking
from memsweep.parking import settings as park_settings


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
    parking: Mapping[str, Any] | None = None,
) -> _memsweep.Report:
    """Gives memory back and reports what was measured.

    `protect`: objects in use; whatever they reach is never touched.
    `level`: `trim` (allocator slack), `collect` (also unreachable cycles), `park` (also memory that
    is held and idle moves to disk, see `park`) or `destroy` (first takes the memory of every tensor
    of 1 MiB or more that is neither protected nor in a variable of a running function; using one
    raises `DestroyedError`). `unload` and `evict` need a program that manages models or caches,
    such as ComfyUI; here they do the same as `collect`.
    `goal`: stop as soon as it holds, one of `{"ram_available": bytes}`,
    `{"process_anonymous": bytes}` or `{"device_free": {"device": "cuda:0", "bytes": bytes}}`.
    `dry_run`: plan and report, release nothing.
    `system_wide`: also drop the machine's page cache (Linux, needs root) or page out this process
    (Windows). Never counted as freed.
    `parking`: `{"off": True}`, `{"folder": path, "bytes": most, "seconds": longest}`; what is
    absent is taken from the environment (see docs/memory.md).

    Raises `ValueError` for an invalid level, goal or setting. A step that fails is a row
    of the report, not an exception. Ctrl-C is raised when the step under way is complete, and then
    has the report as `memsweep_report`.
    """
    settings = _settings(level, parking)
    settings.update(goal=goal, system_wide=system_wide, dry_run=dry_run)
    policy = policy_of(settings)
    inventory: dict[str, Any] = {"notes": []}
    host = _Program()
    if policy.needs_facts:
        inventory = host.inventory(list(protect))
    del protect
    inventory["notes"] += kept_errors.notes()
    return sweep_with(host, policy, inventory)


def park(
    objects: Sequence[object], parking: Mapping[str, Any] | None = None
) -> _memsweep.Report:
    """Moves the memory behind these objects to disk; the objects stay as they are, bit for bit.

    `objects`: tensors, arrays, `bytes`, `bytearray`, or anything that reaches them, such as a
    model. Blocks below 1 MiB stay, and so does what is in use, page-locked, shared or mapped from a
    file: the report says how much stayed, and why. A later touch reads from the disk.
    `parking`: as for `sweep`.

    Linux with glibc's allocator only; elsewhere the report says so. Raises `ValueError` for
    invalid settings.
    """
    # Before Python 3.11 a caller keeps what it passed until we return. Only a list: whoever works on the
    # items of a tuple need not hold them.
    kept = objects if sys.version_info < (3, 11) and type(objects) is list else None
    host = _Program(only=list(objects), argument=kept)
    del objects, kept
    return _memsweep.park(policy_of(_settings("park", parking)), host)


def sweep_with(
    host: Host,
    settings: Mapping[str, Any] | _memsweep.Policy,
    inventory: Mapping[str, Any],
    turns: _memsweep.Turns | None = None,
) -> _memsweep.Report:
    """Runs a sweep on a host of your own, with an inventory it described.

    `settings`: plain values, or a policy made from them: `policy_of(settings)`.
    `turns`: what the same step of a loop swept before; the report sums them up.

    What `check_cancelled` raises passes, and then has the report as `memsweep_report`.
    """
    policy = settings if isinstance(settings, _memsweep.Policy) else policy_of(settings)
    return _memsweep.sweep(policy, _json(inventory), host, turns)


def policy_of(settings: Mapping[str, Any]) -> _memsweep.Policy:
    """Checks settings. The policy says which level will be carried out, and whether a plan for it
    needs an inventory of what is in use (`needs_facts`).

    Raises `ValueError` and says what is wrong with them.
    """
    return _memsweep.Policy(_json(settings))


def _settings(level: str, parking: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"level": level, "park": park_settings(parking)}


def _json(value: Any) -> str:
    """Raises `ValueError` for a setting that cannot be written as JSON."""
    try:
        return json.dumps(value, default=_plain)
    except TypeError as error:
        raise ValueError(f"settings are plain values: {error}") from None


def _plain(value: Any) -> Any:
    """Numpy's numbers, and mappings other than `dict`."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is neither a number, a text nor a mapping")


class _Program(TorchHost):
    """The host of a sweep in a plain program."""

    def __init__(
        self, only: list[object] | None = None, argument: list[object] | None = None
    ) -> None:
        self._storages: Storages | None = None
        self._only = None if only is None else Meant(only)
        self._argument = argument

    def inventory(self, protect: list[object]) -> dict[str, Any]:
        """The facts of a plan: only what is protected is known."""
        storages = self._storages = Storages()
        connected = storages.numbers(_memsweep.reach(protect, _memsweep.memory_types()))
        return {
            "storages": storages.facts(),
            "connected": {"storages": connected, "models": []},
            "notes": [note("no_manager")],
        }

    def destroying(self) -> destroying.Destroying:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        return destroying.Destroying(
            self._storages,
            destroying.constants(destroying.is_of_the_program),
            destroying.frames_of(lambda frame: frame.f_globals.get("__package__") == "memsweep"),
            f"its memory was taken by memsweep.sweep(level='destroy') at {when}; give what you "
            "still need as `protect`, or load it again",
            destroying.is_of_the_program,
        )

    def parking(self) -> Parking:
        return Parking(self._storages, only=self._only, argument=self._argument)
