"""ComfyUI with one thing that we take for granted broken: what the next version might do.

Where ComfyUI itself can live with it, a name is really changed, in all of its own code: the module's source is
compiled again with another name. Where it cannot, as its parts share the name across modules, the pack alone is
shown a module that lacks it. Each says which.
"""

import contextlib
import importlib
import re
import types
from pathlib import Path

from harness.executor import pack


@contextlib.contextmanager
def broken(names):
    """The assumptions of these names do not hold; looked up again inside, and once more afterwards."""
    assumptions = pack("comfy_host.assumptions")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(BREAKS[name]())
        assumptions.missing.cache_clear()
        yield assumptions
    assumptions.missing.cache_clear()


@contextlib.contextmanager
def changed(owner, name, value):
    """An attribute of a module or class has another value, or with `...` is not there."""
    before = vars(owner)[name] if isinstance(owner, type) else getattr(owner, name)
    if value is ...:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# Of modules that are broken now. One that is broken twice is so in both ways.
TEXTS: dict[str, str | None] = {}


def renamed(module_name, *names):
    """Really: these names are others in a module's own code. Its classes and functions are made anew, and other
    modules that imported them get the new ones."""

    @contextlib.contextmanager
    def breaking():
        module = importlib.import_module(module_name)
        before = TEXTS.get(module_name)
        source = before or Path(module.__file__).read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"\b{name}\b", source), f"{module_name} has no {name}"
            source = re.sub(rf"\b{name}\b", f"{name}_of_tomorrow", source)
        made = types.ModuleType(module_name)
        made.__file__ = module.__file__
        exec(compile(source, module.__file__, "exec"), vars(made))
        with contextlib.ExitStack() as stack:
            stack.callback(TEXTS.__setitem__, module_name, before)
            TEXTS[module_name] = source
            for name in set(names) & vars(module).keys():
                stack.enter_context(changed(module, name, ...))
            for key, value in list(vars(module).items()):
                ours = getattr(value, "__module__", None) == module_name and hasattr(made, key)
                if not ours or not isinstance(value, (type, types.FunctionType)):
                    continue
                for user in (module, importlib.import_module("execution")):
                    if getattr(user, key, None) is value:
                        stack.enter_context(changed(user, key, getattr(made, key)))
            yield

    return breaking


def function_renamed(name):
    """Really: a variable of `execution.execute` has another name."""

    @contextlib.contextmanager
    def breaking():
        import inspect

        import execution

        # One that was renamed already has its text with it.
        source = getattr(execution.execute, "text", None) or inspect.getsource(execution.execute)
        assert re.search(rf"\b{name}\b", source), name
        source = re.sub(rf"\b{name}\b", f"{name}_of_tomorrow", source)
        made = {}
        exec(compile(source, execution.__file__, "exec"), vars(execution), made)
        made["execute"].text = source
        with changed(execution, "execute", made["execute"]):
            yield

    return breaking


def without(module_name, path):
    """Really, where nobody else needs it: it is not there."""

    @contextlib.contextmanager
    def breaking():
        owner = importlib.import_module(module_name)
        *parts, last = path.split(".")
        for part in parts:
            owner = getattr(owner, part)
        # A method may come from a base.
        owner = next((base for base in getattr(owner, "__mro__", ()) if last in vars(base)), owner)
        with changed(owner, last, ...):
            yield

    return breaking


def unseen(name):
    """Only our table is told so: ComfyUI could not run without it."""

    @contextlib.contextmanager
    def breaking():
        assumptions = pack("comfy_host.assumptions")
        rows = [
            row if row.name != name else
            assumptions.Assumption(row.name, row.shape, row.since, row.off, lambda: False)
            for row in assumptions.TABLE
        ]
        with changed(assumptions, "TABLE", tuple(rows)):
            yield

    return breaking


def other_keyword():
    """Really: `free_memory` knows what to keep by another name."""

    @contextlib.contextmanager
    def breaking():
        import comfy.model_management as management

        real = management.free_memory

        def free_memory(memory_required, device, spare=(), **named):
            return real(memory_required, device, keep_loaded=list(spare), **named)

        with changed(management, "free_memory", free_memory):
            yield

    return breaking


GRAPH, CACHING = "comfy_execution.graph", "comfy_execution.caching"
MANAGEMENT = "comfy.model_management"
BREAKS = {
    **{
        f"execution.execute: {name}": function_renamed(name)
        for name in (
            "execution_list", "dynprompt", "input_data_all", "executed", "pending_subgraph_results",
            "pending_async_nodes", "ui_outputs",
        )
    },
    # `execute` asks the list for some of these by name.
    f"{GRAPH}.ExecutionList.dynprompt": renamed(GRAPH, "dynprompt"),
    f"{GRAPH}.ExecutionList.pendingNodes": renamed(GRAPH, "pendingNodes"),
    f"{GRAPH}.ExecutionList.output_cache": renamed(GRAPH, "output_cache"),
    f"{GRAPH}.ExecutionList.execution_cache": renamed(GRAPH, "execution_cache"),
    f"{GRAPH}.ExecutionList.externalBlockResults": unseen(f"{GRAPH}.ExecutionList.externalBlockResults"),
    f"{CACHING}.BasicCache.cache": renamed(CACHING, "cache"),
    f"{CACHING}.BasicCache.subcaches": renamed(CACHING, "subcaches"),
    f"{CACHING}.BasicCache.cache_key_set": renamed(CACHING, "cache_key_set"),
    f"{CACHING}.CacheKeySet.get_data_key": renamed(CACHING, "get_data_key"),
    f"{CACHING}.Unhashable": renamed(CACHING, "Unhashable"),
    "execution.IsChangedCache.is_changed": unseen("execution.IsChangedCache.is_changed"),
    "comfy_execution.cache_provider._has_cache_providers": unseen(
        "comfy_execution.cache_provider._has_cache_providers"
    ),
    **{f"{GRAPH}.DynamicPrompt.{name}": unseen(f"{GRAPH}.DynamicPrompt.{name}") for name in (
        "all_node_ids", "get_node", "has_node", "get_parent_node_id", "get_display_node_id",
    )},
    "nodes.NODE_CLASS_MAPPINGS": unseen("nodes.NODE_CLASS_MAPPINGS"),
    "nodes.NODE_DISPLAY_NAME_MAPPINGS": without("nodes", "NODE_DISPLAY_NAME_MAPPINGS"),
    f"{MANAGEMENT}.current_loaded_models": unseen(f"{MANAGEMENT}.current_loaded_models"),
    f"{MANAGEMENT}.free_memory": other_keyword(),
    **{f"{MANAGEMENT}.LoadedModel.{name}": unseen(f"{MANAGEMENT}.LoadedModel.{name}") for name in (
        "model", "real_model", "device",
    )},
    "comfy.model_patcher.ModelPatcher: current_weight_patches_uuid": unseen(
        "comfy.model_patcher.ModelPatcher: current_weight_patches_uuid"
    ),
    "comfy.model_patcher.ModelPatcherDynamic: dynamic_pins": unseen(
        "comfy.model_patcher.ModelPatcherDynamic: dynamic_pins"
    ),
    f"{MANAGEMENT}.throw_exception_if_processing_interrupted": unseen(
        f"{MANAGEMENT}.throw_exception_if_processing_interrupted"
    ),
    f"{MANAGEMENT}.InterruptProcessingException": unseen(f"{MANAGEMENT}.InterruptProcessingException"),
    "execution.PromptExecutor.execute": unseen("execution.PromptExecutor.execute"),
    f"{GRAPH}.ExecutionList.complete_node_execution": unseen(f"{GRAPH}.ExecutionList.complete_node_execution"),
    "comfy_execution.graph_utils.ExecutionBlocker": unseen("comfy_execution.graph_utils.ExecutionBlocker"),
    "comfy.utils.ProgressBar.update_absolute": unseen("comfy.utils.ProgressBar.update_absolute"),
}
