"""The host of a sweep: what the native module asks of the program it runs in.

`TorchHost` answers for a plain program; ComfyUI's node pack has a host of its own.
"""

from __future__ import annotations

import gc
import json
from typing import Any, Protocol

from memsweep import torch_host
from memsweep.destroying import Destroying
from memsweep.outcomes import done, nothing, unsupported
from memsweep.parking import Parking


class Host(Protocol):
    """Describes devices, and carries out the steps that are neither Python's nor the system's alone.

    Every method may be called several times in one sweep, always on the thread that sweeps. What it
    raises becomes a failed row of the report, unless it is one of `passing` or no `Exception`: that
    ends the sweep and is raised when the step under way is complete.
    """

    @property
    def passing(self) -> tuple[type[BaseException], ...]:
        """Exceptions that are never turned into a failed row, such as the program's own cancel."""
        ...

    def devices(self) -> str:
        """JSON list of devices, as in a reading. Never creates a device context."""
        ...

    def release(self, action: str) -> str:
        """Carries out one action (JSON) completely or not at all; answers with its outcome (JSON)."""
        ...

    def check_cancelled(self) -> None:
        """Raises when the user cancelled. Asked before each step."""
        ...

    def parking(self) -> Parking | None:
        """What a park step may move; `None` where this program parks nothing."""
        ...

    def destroying(self) -> Destroying | None:
        """What a destroy step may take; `None` where this program destroys nothing."""
        ...


class TorchHost:
    """The host of a sweep in a plain program, and the base of other hosts."""

    passing: tuple[type[BaseException], ...] = ()

    def devices(self) -> str:
        return json.dumps(torch_host.device_rows())

    def check_cancelled(self) -> None:
        """A plain program has no cancel button; Ctrl-C passes through by itself."""

    def parking(self) -> Parking | None:
        return None

    def destroying(self) -> Destroying | None:
        return None

    def release(self, action: str) -> str:
        return json.dumps(self.carry_out(json.loads(action)))

    def carry_out(self, action: dict[str, Any]) -> dict[str, Any]:
        """Carries out one action. What is raised becomes a failed row of the report."""
        kind = action["kind"]
        if kind == "collect":
            return done(f"{gc.collect()} objects")
        if kind == "empty_device_cache":
            count = torch_host.empty_device_cache()
            if count is None:
                return nothing("capturing")
            return done() if count else nothing("no_device")
        if kind == "empty_host_cache":
            emptied = torch_host.empty_host_cache()
            if emptied is None:
                return nothing("no_device")
            return done() if emptied else unsupported("no_torch_call")
        return unsupported("not_this_program")
