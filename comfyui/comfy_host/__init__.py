"""The only folder that knows ComfyUI's internals.

It describes (pending nodes, links, cache entries, loaded models) and carries out by number what
was decided elsewhere; it decides nothing. Features are detected, versions never compared: what
does not match leaves the executor unidentified, and then nothing is evicted.

Everything here runs on the prompt worker's thread, inside a node.
"""

from .errors import STOPS, said
from .executor import wants_lists
from .host import ComfyHost, owner_of

__all__ = ["STOPS", "ComfyHost", "owner_of", "said", "wants_lists"]
