"""What a program with managed models or caches needs to host sweeps of its own.

ComfyUI's node pack is built on this module. A host describes its facts as an inventory (see
docs/report-format.md), answers what `Host` asks, and calls `sweep_with`.
"""

from memsweep._memsweep import (
    Reading,
    Report,
    Storages,
    Turns,
    mapped_files,
    memory_report,
    memory_types,
    plain,
    reach_many,
    read,
    variables,
)
from memsweep import destroying
from memsweep.destroying import Destroying
from memsweep.host import Host, TorchHost
from memsweep.kept_errors import notes as kept_error_notes
from memsweep.library import policy_of, sweep, sweep_with
from memsweep.outcomes import done, note, nothing, unsupported
from memsweep.parking import Parking, settings as park_settings
from memsweep.torch_host import inference_mode

__all__ = [
    "Destroying",
    "Host",
    "Parking",
    "Reading",
    "Report",
    "Storages",
    "TorchHost",
    "Turns",
    "destroying",
    "done",
    "inference_mode",
    "kept_error_notes",
    "mapped_files",
    "memory_report",
    "memory_types",
    "note",
    "nothing",
    "park_settings",
    "plain",
    "policy_of",
    "reach_many",
    "read",
    "sweep",
    "sweep_with",
    "unsupported",
    "variables",
]
