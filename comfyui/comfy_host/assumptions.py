"""What is taken for granted of ComfyUI's internals, and what is switched off where it is not so.

ComfyUI promises none of it. Each row was read in the public sources of the versions it names, and is looked up
again when the pack is loaded; the log says once what is missing and what that switches off. Where a row cannot be
decided from outside (another pack wraps a function), the place that uses it decides while a prompt runs.
`tests/comfyui/test_assumptions.py` breaks each one, and pairs of them.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import CodeType
from typing import Any

LOG = logging.getLogger("memsweep")


class Off(Enum):
    """What is switched off, in the words of the log."""

    OUTPUTS = "no cached output is dropped and nothing is destroyed"
    EMPTYING = "outputs of earlier prompts leave RAM when the prompt ends, and not before"
    FINDING = "what feeds an output node stays, also where no later prompt can find it"
    DESTROYING = "nothing is destroyed"
    UNLOADING = "no model is unloaded"
    PINS = "it is not reported how much RAM is pinned for a model"
    TURNS = "a loop's report on the page shows its first turn"
    ENDS = "no sweep runs when a prompt has ended"
    CANCEL = "a sweep cannot be cancelled"
    NAMES = "nodes go by their id and class"
    LISTS = "an empty list cannot be passed on, and short ones come out longer"
    PROGRESS = "no progress is shown while memory moves to disk"


@dataclass(frozen=True)
class Assumption:
    """One row."""

    name: str
    shape: str
    # The first version it was seen in; 0.16 is the oldest that is tested.
    since: str
    off: Off
    holds: Callable[[], bool]


def _at(module: str, path: str) -> Any:
    # ComfyUI has loaded them all before it loads a pack.
    found: Any = sys.modules[module]
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _is(module: str, path: str, kind: type | tuple[type, ...] = object) -> Callable[[], bool]:
    return lambda: isinstance(_at(module, path), kind)


def _takes(module: str, path: str, *parameters: str) -> Callable[[], bool]:
    return lambda: set(parameters) <= set(inspect.signature(_at(module, path)).parameters)


def _codes(value: Any) -> Iterator[CodeType]:
    """The code of a function, or of all functions of a class and its bases."""
    owners = value.__mro__ if isinstance(value, type) else (value,)
    for owner in owners:
        for function in vars(owner).values() if isinstance(value, type) else (owner,):
            code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
            if code is not None:
                yield code


def _variable(module: str, path: str, name: str) -> Callable[[], bool]:
    """A variable of a function. One that another pack has put its own in front of cannot be judged."""

    def holds() -> bool:
        (code,) = _codes(_at(module, path))
        is_theirs = code.co_filename.endswith(f"{module.rpartition('.')[2]}.py")
        return not is_theirs or name in {*code.co_varnames, *code.co_cellvars}

    return holds


def _attribute(module: str, path: str, name: str) -> Callable[[], bool]:
    """An attribute that the instances of a class get."""
    return lambda: any(name in code.co_names for code in _codes(_at(module, path)))


def _provider() -> bool:
    provider = sys.modules.get("comfy_execution.cache_provider")
    # Older versions have none.
    return provider is None or callable(getattr(provider, "_has_cache_providers", None))


def _loop_results() -> bool:
    graph = _at("comfy_execution.graph", "ExecutionList")
    has_loops = hasattr(graph, "get_external_block_result")
    return not has_loops or _attribute("comfy_execution.graph", "ExecutionList", "externalBlockResults")()


def _pins() -> bool:
    # Older versions have no such count.
    is_older = not hasattr(sys.modules["comfy.model_management"], "free_pins")
    return is_older or _attribute("comfy.model_patcher", "ModelPatcherDynamic", "dynamic_pins")()


def _rows() -> Iterator[Assumption]:
    for name, off in (
        ("execution_list", Off.OUTPUTS),
        ("dynprompt", Off.OUTPUTS),
        ("input_data_all", Off.OUTPUTS),
        ("executed", Off.EMPTYING),
        ("pending_subgraph_results", Off.DESTROYING),
        ("pending_async_nodes", Off.DESTROYING),
        ("ui_outputs", Off.TURNS),
    ):
        yield Assumption(
            f"execution.execute: {name}", "a variable of the function that runs a node", "0.16",
            off, _variable("execution", "execute", name),
        )
    for name, off in (
        ("dynprompt", Off.OUTPUTS),
        ("pendingNodes", Off.OUTPUTS),
        ("output_cache", Off.OUTPUTS),
        ("execution_cache", Off.EMPTYING),
    ):
        yield Assumption(
            f"comfy_execution.graph.ExecutionList.{name}", "an attribute", "0.16",
            off, _attribute("comfy_execution.graph", "ExecutionList", name),
        )
    yield Assumption(
        "comfy_execution.graph.ExecutionList.externalBlockResults",
        "what ComfyUI's own loops gave, by the node at their end; older versions have none", "0.38",
        Off.DESTROYING, _loop_results,
    )
    for name in ("cache", "subcaches", "cache_key_set"):
        yield Assumption(
            f"comfy_execution.caching.BasicCache.{name}", "an attribute", "0.16",
            Off.OUTPUTS, _attribute("comfy_execution.caching", "BasicCache", name),
        )
    yield Assumption(
        "comfy_execution.caching.CacheKeySet.get_data_key", "a method that takes a node's id", "0.16",
        Off.OUTPUTS, _takes("comfy_execution.caching", "CacheKeySet.get_data_key", "node_id"),
    )
    yield Assumption(
        "comfy_execution.caching.Unhashable", "what stands in a key for a value that cannot be in one", "0.16",
        Off.FINDING, _is("comfy_execution.caching", "Unhashable", type),
    )
    yield Assumption(
        "execution.IsChangedCache.is_changed", "a dict with what each node answered to IS_CHANGED", "0.16",
        Off.FINDING, _attribute("execution", "IsChangedCache", "is_changed"),
    )
    yield Assumption(
        "comfy_execution.cache_provider._has_cache_providers", "a function, where there is the module",
        "0.18", Off.EMPTYING, _provider,
    )
    for name in ("all_node_ids", "get_node", "has_node", "get_parent_node_id"):
        yield Assumption(
            f"comfy_execution.graph.DynamicPrompt.{name}", "a method", "0.16",
            Off.OUTPUTS, _is("comfy_execution.graph", f"DynamicPrompt.{name}"),
        )
    yield Assumption(
        "comfy_execution.graph.DynamicPrompt.get_display_node_id", "a method that takes a node's id",
        "0.16", Off.NAMES, _is("comfy_execution.graph", "DynamicPrompt.get_display_node_id"),
    )
    yield Assumption(
        "nodes.NODE_CLASS_MAPPINGS", "a dict of classes by their key", "0.16",
        Off.OUTPUTS, _is("nodes", "NODE_CLASS_MAPPINGS", dict),
    )
    yield Assumption(
        "nodes.NODE_DISPLAY_NAME_MAPPINGS", "a dict of titles by their key", "0.16",
        Off.NAMES, _is("nodes", "NODE_DISPLAY_NAME_MAPPINGS", dict),
    )
    yield Assumption(
        "comfy.model_management.current_loaded_models", "a list", "0.16",
        Off.UNLOADING, _is("comfy.model_management", "current_loaded_models", list),
    )
    yield Assumption(
        "comfy.model_management.free_memory", "a function that unloads all but `keep_loaded`", "0.16",
        Off.UNLOADING,
        _takes("comfy.model_management", "free_memory", "memory_required", "device", "keep_loaded"),
    )
    for name in ("model", "real_model", "device"):
        yield Assumption(
            f"comfy.model_management.LoadedModel.{name}", "an attribute", "0.16",
            Off.UNLOADING, _attribute("comfy.model_management", "LoadedModel", name),
        )
    yield Assumption(
        "comfy.model_patcher.ModelPatcher: current_weight_patches_uuid",
        "what its model has, by which it knows whether its patches are in", "0.16",
        Off.UNLOADING,
        _attribute("comfy.model_patcher", "ModelPatcher", "current_weight_patches_uuid"),
    )
    yield Assumption(
        "comfy.model_patcher.ModelPatcherDynamic: dynamic_pins",
        "what its model has for each device: tuples whose fourth is a list with the pinned bytes", "0.24",
        Off.PINS, _pins,
    )
    yield Assumption(
        "comfy.model_management.throw_exception_if_processing_interrupted", "a function", "0.16",
        Off.CANCEL, _takes("comfy.model_management", "throw_exception_if_processing_interrupted"),
    )
    yield Assumption(
        "comfy.model_management.InterruptProcessingException", "what it raises", "0.16",
        Off.CANCEL, _is("comfy.model_management", "InterruptProcessingException", type),
    )
    yield Assumption(
        "execution.PromptExecutor.execute", "a function of the class, called for each prompt", "0.16",
        Off.ENDS, _takes("execution", "PromptExecutor.execute", "self"),
    )
    yield Assumption(
        "comfy_execution.graph.ExecutionList.complete_node_execution",
        "a function of the class, called when a node is done", "0.16",
        Off.ENDS, _takes("comfy_execution.graph", "ExecutionList.complete_node_execution", "self"),
    )
    yield Assumption(
        "comfy_execution.graph_utils.ExecutionBlocker", "the class of what runs no node", "0.16",
        Off.LISTS, _is("comfy_execution.graph_utils", "ExecutionBlocker", type),
    )
    yield Assumption(
        "comfy.utils.ProgressBar.update_absolute", "a method that takes a value and a total", "0.16",
        Off.PROGRESS, _takes("comfy.utils", "ProgressBar.update_absolute", "value", "total"),
    )


TABLE: tuple[Assumption, ...] = tuple(_rows())


@functools.cache
def missing() -> dict[Off, tuple[str, ...]]:
    """What is switched off, and for want of what. Looked up once; the log says it then."""
    found: dict[Off, tuple[str, ...]] = {}
    for row in TABLE:
        try:
            holds = row.holds()
        except Exception:
            holds = False
        if not holds:
            found[row.off] = (*found.get(row.off, ()), row.name)
            LOG.warning("This ComfyUI has no %s (%s): %s", row.name, row.shape, row.off.value)
    return found


def is_off(part: Off) -> str | None:
    """Why this part is switched off, in words; `None` where it is not."""
    names = missing().get(part)
    return None if names is None else f"this ComfyUI has no {' and no '.join(names)}"
