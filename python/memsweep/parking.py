"""What parking asks of a program: which memory stays, where spill files go, and how it gets on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from memsweep import _memsweep, torch_host
from memsweep.facts import Storages

# What a user sets for every sweep of a program. Arguments of a call win over these.
VARIABLES = {
    "off": "MEMSWEEP_PARK",
    "folder": "MEMSWEEP_PARK_FOLDER",
    "bytes": "MEMSWEEP_PARK_BYTES",
    "seconds": "MEMSWEEP_PARK_SECONDS",
}


def settings(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The park settings of a sweep: those of the environment, then those given.

    `MEMSWEEP_PARK=off` switches parking off, `MEMSWEEP_PARK_FOLDER` names a folder on a disk,
    `MEMSWEEP_PARK_BYTES` and `MEMSWEEP_PARK_SECONDS` limit one sweep. Raises `ValueError` for a
    number that is none.
    """
    found: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        value = os.environ.get(variable, "").strip()
        if not value:
            continue
        if name == "off":
            found[name] = value.lower() in ("off", "0", "false", "no")
        elif name == "folder":
            found[name] = value
        else:
            found[name] = _number(variable, value, int if name == "bytes" else float)
    found.update(given or {})
    return found


def _number(variable: str, value: str, kind: type) -> Any:
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise ValueError(f"{variable} is {value!r}: use a number of at least 0")
    return number


def default_folder() -> str:
    """A folder for spill files, where the program has none of its own: on a disk, by custom."""
    return "/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir()


class Meant:
    """What a caller wants parked: by address where memory is shared, else by the object itself.

    Holds neither, so that it does not keep them in use; the caller does.
    """

    def __init__(self, objects: list[object]) -> None:
        # A module's globals are not followed, so that one function does not reach the whole program.
        objects = [
            value
            for given in objects
            for value in (vars(given).values() if isinstance(given, ModuleType) else (given,))
        ]
        storages = Storages()
        reached = _memsweep.reach(objects, (*storages.types(), bytes, bytearray))
        self.addresses = storages.addresses(storages.numbers(reached))
        self.identities = {id(value) for value in reached if isinstance(value, (bytes, bytearray))}


class Parking:
    """One park step, as the native module asks for it. Holds no tensor."""

    def __init__(
        self,
        storages: Storages | None,
        keep: Iterable[int],
        folder: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        only: Meant | None = None,
    ) -> None:
        self.types = (*torch_host.memory_types(), bytes, bytearray)
        self.keep = storages.addresses(keep) if storages is not None else set()
        self.only = None if only is None else (only.addresses, only.identities)
        self.folder = folder or default_folder()
        self._progress = progress

    def progress(self, done: int, total: int) -> None:
        """Told before the first batch moves and after each one, in bytes. May raise to stop."""
        if self._progress is not None:
            self._progress(done, total)
