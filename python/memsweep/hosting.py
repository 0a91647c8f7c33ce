"""What a program with managed models or caches needs to host sweeps of its own.

ComfyUI's node pack is built on this module. A host describes its facts as an inventory (see
docs/report-format.md), answers `devices`, `release` and `check_cancelled`, and calls `sweep_with`.
"""

from memsweep._memsweep import (
    Reading,
    Report,
    level_of,
    mapped_files,
    plain,
    reach_many,
    read,
    variables,
)
from memsweep import destroying
from memsweep.facts import Storages
from memsweep.kept_errors import notes as kept_error_notes
from memsweep.library import Host, sweep, sweep_with
from memsweep.parking import Parking, settings as park_settings
from memsweep.torch_host import TorchHost, done, nothing, unsupported

__all__ = [
    "Host",
    "Parking",
    "Reading",
    "Report",
    "Storages",
    "TorchHost",
    "destroying",
    "done",
    "kept_error_notes",
    "level_of",
    "mapped_files",
    "nothing",
    "park_settings",
    "plain",
    "reach_many",
    "read",
    "sweep",
    "sweep_with",
    "unsupported",
    "variables",
]
