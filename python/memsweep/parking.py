"""What parking asks of a program: which memory stays, where spill files go, and how it progresses."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from memsweep import _memsweep
from memsweep._memsweep import Storages

# What a user sets for every sweep of a program. Arguments of a call win over these.
VARIABLES = {
    "off": "MEMSWEEP_PARK",
    "folder": "MEMSWEEP_PARK_FOLDER",
    "bytes": "MEMSWEEP_PARK_BYTES",
    "seconds": "MEMSWEEP_PARK_SECONDS",
}


_ON = ("on", "1", "true", "yes", "enable", "enabled")
_OFF = ("off", "0", "false", "no", "disable", "disabled", "none", "never")
# No sign, no exponent, no underscore and no digit of another script: anything odd is a mistake.
_BYTES = re.compile(r"[0-9]{1,19}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}", re.ASCII)


def settings(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The park settings of a sweep: those given, and what they lack from the environment.

    `MEMSWEEP_PARK=off` switches parking off, `MEMSWEEP_PARK_FOLDER` names a folder on a disk,
    `MEMSWEEP_PARK_BYTES` and `MEMSWEEP_PARK_SECONDS` limit one sweep. Raises `ValueError` for an
    invalid value.
    """
    found = dict(given or {})
    switched_off = found.get("off") is True
    for name, variable in VARIABLES.items():
        value = os.environ.get(variable, "").strip()
        if not value or name in found or switched_off:
            continue
        if name == "off":
            found[name] = _is_off(variable, value)
        elif name == "folder":
            found[name] = value
        elif name == "bytes":
            found[name] = int(_number(variable, value, _BYTES, "a whole number of bytes"))
        else:
            found[name] = float(_number(variable, value, _SECONDS, "a number of seconds"))
    if found.get("folder") is not None:
        found["folder"] = _folder(found["folder"])
    return found


def _is_off(variable: str, value: str) -> bool:
    word = value.lower()
    if word not in _ON and word not in _OFF:
        raise ValueError(
            f"{variable} is {_shown(value)}: use {', '.join(_OFF)} to switch parking off, "
            f"or {', '.join(_ON)}"
        )
    return word in _OFF


def _number(variable: str, value: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{variable} is {_shown(value)}: use {what} of at least 0, in digits")
    return value


def _folder(folder: Any) -> str:
    """A path in the text that settings are. Raises `ValueError` for one that has none."""
    try:
        path = os.fsdecode(folder)
        path.encode()
    except (TypeError, UnicodeError):
        raise ValueError(
            f"the folder for parking is {_shown(folder)}: use a folder whose name is UTF-8 text"
        ) from None
    return path


def _shown(value: object) -> str:
    """A value in one line of an error, in letters that every terminal has."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def default_folder() -> str:
    """A folder for spill files, where the program has none of its own: on a disk, by custom."""
    return "/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir()


class Meant:
    """What a caller wants parked: as storages where memory can be shared, else by the object itself.

    Holds neither, so that it does not keep them in use; the caller does.
    """

    def __init__(self, objects: list[object]) -> None:
        # A module's globals are not followed, so that one function does not reach the whole program.
        objects = [
            value
            for given in objects
            # By type: an object may lie about its class, and run code to do it.
            for value in (vars(given).values() if issubclass(type(given), ModuleType) else (given,))
        ]
        reached = _memsweep.reach(objects, (*_memsweep.memory_types(), bytes, bytearray))
        self.storages = Storages()
        self.storages.numbers(reached)
        self.identities = {id(value) for value in reached if issubclass(type(value), (bytes, bytearray))}


class Parking:
    """One park step, as the native module asks for it. Holds no tensor."""

    def __init__(
        self,
        storages: Storages | None,
        folder: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        only: Meant | None = None,
        argument: list[object] | None = None,
    ) -> None:
        """`storages`: those of the inventory, `None` where there is none. `only`: what alone is meant."""
        self.types = (*_memsweep.memory_types(), bytes, bytearray)
        self.storages = storages
        self.only = None if only is None else (only.storages, only.identities)
        self.folder = folder or default_folder()
        # A list that the call under way holds, which puts nothing in it to use.
        self.argument = argument
        self._progress = progress

    def progress(self, done: int, total: int) -> None:
        """Told before the first batch moves and after each one, in bytes. May raise to stop."""
        if self._progress is not None:
            self._progress(done, total)
