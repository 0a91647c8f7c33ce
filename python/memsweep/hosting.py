"""What a program with managed models or caches needs to host sweeps of its own.

ComfyUI's node pack is built on this module. A host describes its facts as an inventory (see
docs/report-format.md), answers `devices`, `release` and `check_cancelled`, and calls `sweep_with`.
"""

from memsweep._memsweep import Reading, Report, level_of, mapped_files, reach_many, read
from memsweep.facts import Storages
from memsweep.library import Host, sweep, sweep_with
from memsweep.torch_host import TorchHost, done, nothing, unsupported

__all__ = [
    "Host",
    "Reading",
    "Report",
    "Storages",
    "TorchHost",
    "done",
    "level_of",
    "mapped_files",
    "nothing",
    "reach_many",
    "read",
    "sweep",
    "sweep_with",
    "unsupported",
]
