"""The node pack. On import the classes of the node table are built, and the hook is set."""

from . import at_end, comfy_host
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

comfy_host.check_assumptions()
comfy_host.install(at_end.ended)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
