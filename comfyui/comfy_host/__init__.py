"""The only folder that knows ComfyUI's internals.

It describes (pending nodes, links, cache entries, loaded models) and carries out by number what
was decided elsewhere; it decides nothing. Features are detected, versions never compared: what
does not match leaves the executor unidentified, and then nothing is evicted.

Everything here runs on the prompt worker's thread, inside a node or when a prompt has ended.
"""

from .assumptions import missing as check_assumptions
from .errors import STOPS, said
from .executor import nodes_with_a_spec
from .frames import wants_lists
from .hook import Prompt, install, reached
from .host import ComfyHost, owner_of
from .settings import chosen

__all__ = [
    "STOPS",
    "ComfyHost",
    "Prompt",
    "check_assumptions",
    "chosen",
    "install",
    "nodes_with_a_spec",
    "owner_of",
    "reached",
    "said",
    "wants_lists",
]
