"""Probe nodes: what is loaded, and what the process holds, at their place in the workflow."""

from .watch import loaded_models


class AnyType(str):
    """ComfyUI's wildcard: compares equal to every type name."""

    def __ne__(self, _other: object) -> bool:
        return False


ANY = AnyType("*")


class ProbeModels:
    """Passes a value on and tells which models ComfyUI has loaded at that moment."""

    CATEGORY = "test"
    FUNCTION = "run"
    RETURN_TYPES = (ANY,)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": (ANY, {})}, "optional": {"also": (ANY, {})}}

    def run(self, anything, also=None):
        return {"ui": {"probe_models": loaded_models()}, "result": (anything,)}


NODE_CLASS_MAPPINGS = {"ProbeModels": ProbeModels}
NODE_DISPLAY_NAME_MAPPINGS = {"ProbeModels": "Probe: loaded models"}
