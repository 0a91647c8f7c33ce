"""Node classes, generated from the node table. Each run is one call into the service."""

from __future__ import annotations

import weakref
from typing import Any

from . import comfy_host, service
from .spec import SPECS, NodeSpec


class _TakesLists:
    """The executor asks the instance before each run; the front-end asks the class."""

    def __get__(self, instance: SweepNode | None, owner: type) -> bool:
        if instance is None:
            return False
        instance.lists = comfy_host.wants_lists(instance.SPEC.data)
        instance.starts = True
        # On the instance only: the front-end reads the class, where nothing is a list.
        instance.OUTPUT_IS_LIST = (*(instance.lists for _ in instance.SPEC.passes), False)
        return instance.lists


class SweepNode:
    """What all nodes do: hand their inputs to the service once, and pass the data on."""

    SPEC: NodeSpec
    CATEGORY = "MemSweep"
    FUNCTION = "run"
    INPUT_IS_LIST = _TakesLists()

    def __init__(self) -> None:
        self.lists = False
        self.OUTPUT_IS_LIST: tuple[bool, ...] = (False,) * (len(self.SPEC.passes) + 1)
        self._swept: weakref.ref[Any] | None = None
        self._report = ""
        self._ui: dict[str, Any] = {}
        # Nothing was handed over yet since the executor last began with this node.
        self.starts = False

    def run(self, **inputs: Any) -> dict[str, Any]:
        """One item, or whole lists. Sweeps once however many items there are."""
        spec = self.SPEC
        values = {name: inputs.pop(name) for name in spec.data if name in inputs}
        if self.lists:
            inputs = {name: items[0] for name, items in inputs.items()}
        unique_id, dynprompt = inputs.pop("unique_id", None), inputs.pop("dynprompt", None)
        metadata = inputs.pop("metadata", None)
        comfy_host.reached(unique_id, dynprompt)
        starts, self.starts = self.starts, False
        ui: dict[str, Any] = dict.fromkeys(self._ui, ())
        if not self._seen(dynprompt):
            answer = service.run(spec, values, inputs, unique_id, metadata, dynprompt)
            self._report = answer["text"]
            ui = self._ui = {} if answer.pop("told", False) else service.ui_of(answer)
        elif starts:
            # It runs again in the same prompt, and shows what it showed.
            ui = self._ui
        absent = [None] if self.lists else None
        passed = (values.get(name, absent) for name in spec.passes)
        return {"ui": ui, "result": (*passed, self._report)}

    def _seen(self, dynprompt: Any) -> bool:
        """Whether this prompt was swept by this node already; remembers it."""
        if dynprompt is None:
            return False
        if self._swept is not None and self._swept() is dynprompt:
            return True
        try:
            self._swept = weakref.ref(dynprompt)
        except TypeError:
            self._swept = None
        return False


def _input_types(spec: NodeSpec) -> dict[str, Any]:
    data = [
        (name, (kind, {"forceInput": True}) if kind == "STRING" else (kind,))
        for name, kind in spec.data.items()
    ]
    return {
        "required": {**dict(data[: spec.required]), **spec.widgets},
        "optional": {**dict(data[spec.required :]), **spec.optional_widgets},
        "hidden": {
            "unique_id": "UNIQUE_ID",
            "dynprompt": "DYNPROMPT",
            # The workflow as the front-end has it: with the titles of nodes.
            "metadata": "EXTRA_PNGINFO",
        },
    }


def _always_changed(_cls: type, /, **_: Any) -> float:
    # A new NaN each time: the one in `math` is a single object and would compare as unchanged.
    return float("nan")


def _build(spec: NodeSpec) -> type:
    # A node at the end of a workflow has an output too: a loop's body must lead to the loop's end.
    outputs = [*(spec.data[name] for name in spec.passes), "STRING"]
    names = [*spec.passes, "report"]
    members: dict[str, Any] = {
        "SPEC": spec,
        "__doc__": spec.description,
        "DESCRIPTION": spec.description,
        "INPUT_TYPES": classmethod(lambda cls: _input_types(spec)),
        "RETURN_TYPES": tuple(outputs),
        "RETURN_NAMES": tuple(names),
        "OUTPUT_NODE": spec.output_node,
    }
    if spec.terminal:
        members["IS_CHANGED"] = classmethod(_always_changed)
    return type(spec.key, (SweepNode,), members)


def _register() -> tuple[dict[str, type], dict[str, str]]:
    classes, titles = {}, {}
    for spec in SPECS:
        owner = comfy_host.owner_of(spec.key)
        if owner is not None:
            service.LOG.warning("%s stays with %a: MemSweep's node is not registered",
                                spec.key, owner)
            continue
        classes[spec.key] = _build(spec)
        titles[spec.key] = spec.title
    return classes, titles


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = _register()
