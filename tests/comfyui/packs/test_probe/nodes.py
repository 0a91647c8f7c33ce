"""Probe nodes: what is loaded, and what the process holds, at their place in the workflow."""

import time

from .keeper import ProbeKeeper
from .watch import loaded_models


class AnyType(str):
    """ComfyUI's wildcard: compares equal to every type name."""

    def __ne__(self, _other: object) -> bool:
        return False


ANY = AnyType("*")


class ProbeModels:
    """Passes a value on and reports which models ComfyUI has loaded at that moment."""

    CATEGORY = "test"
    FUNCTION = "run"
    RETURN_TYPES = (ANY,)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": (ANY, {})}, "optional": {"also": (ANY, {})}}

    def run(self, anything, also=None):
        return {"ui": {"probe_models": loaded_models()}, "result": (anything,)}


class ProbeFail:
    """Fails, as a node does that runs out of memory."""

    CATEGORY = "test"
    FUNCTION = "run"
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": (ANY, {})}}

    def run(self, anything):
        raise RuntimeError("meant to fail")


class ProbeWait(ProbeFail):
    """Waits until the user cancels."""

    def run(self, anything):
        import comfy.model_management as management

        for _ in range(6000):
            management.throw_exception_if_processing_interrupted()
            time.sleep(0.01)
        raise RuntimeError("nobody cancelled")


NODE_CLASS_MAPPINGS = {
    "ProbeModels": ProbeModels,
    "ProbeFail": ProbeFail,
    "ProbeWait": ProbeWait,
    "ProbeKeeper": ProbeKeeper,
}
NODE_DISPLAY_NAME_MAPPINGS = {"ProbeModels": "Probe: loaded models"}
