"""Frees RAM and VRAM in any PyTorch program, without breaking anything.

`reading()` says who holds the memory now. `sweep()` gives memory back and says what was really
freed. Nothing happens on import: no thread, no device context, no file.
"""

from memsweep._memsweep import Reading, Report, __version__
from memsweep.destroying import DestroyedError
from memsweep.library import park, reading, sweep, sweep_with

__all__ = ["DestroyedError", "Reading", "Report", "__version__", "park", "reading", "sweep", "sweep_with"]
