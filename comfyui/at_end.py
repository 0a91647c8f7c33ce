"""Sweeps that run when a prompt has ended: of nodes that it did not reach, and after one that failed.

They run on the executor's thread, after it is done and before it goes on to the next prompt. No node is
computed for them, and the prompt's outcome stays what it is.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

from . import comfy_host, service
from .spec import AFTER_FAILURE, EVERY_QUEUE, LEVELS, NodeSpec

SETTING = "MemSweep.AfterFailure"
VARIABLE = "MEMSWEEP_AFTER_FAILURE"
OFF = "off"


def ended(prompt: comfy_host.Prompt) -> None:
    """Called when a prompt has ended."""
    if prompt.outcome in ("error", "interrupted"):
        level = after_failure()
        if level != OFF:
            # The error, its traceback and what they hold are in cycles.
            gc.collect()
            service.run_at_end(AFTER_FAILURE, {"level": level}, shown_on(prompt), prompt)
    for node, spec, widgets in unreached(prompt):
        service.run_at_end(spec, widgets, node, prompt)


def unreached(prompt: comfy_host.Prompt) -> Iterator[tuple[str, NodeSpec, dict[str, Any]]]:
    """The nodes that sweep on every queue, and did not run in this prompt."""
    for node, spec, inputs in ours(prompt):
        run = inputs.get(EVERY_QUEUE.name)
        if node in prompt.reached or not (run == EVERY_QUEUE.value or _is_linked(run)):
            continue
        widgets = {name: inputs[name] for name in spec.all_widgets if name in inputs}
        linked = [name for name, value in widgets.items() if _is_linked(value)]
        if linked:
            # A value that a node gives is not known where that node did not run either.
            service.LOG.warning(
                "%a, %s, was not reached and does not sweep now: set %s in the node itself",
                node, spec.title, ", ".join(linked),
            )
            continue
        yield node, spec, widgets


def _is_linked(value: Any) -> bool:
    return not isinstance(value, (str, int, float, type(None)))


def ours(prompt: comfy_host.Prompt) -> Iterator[tuple[str, NodeSpec, dict[str, Any]]]:
    """The nodes of ours in a prompt, with their inputs."""
    for node, spec, inputs in comfy_host.nodes_with_a_spec(prompt):
        # Another copy of the pack has specs of its own.
        if isinstance(spec, NodeSpec):
            yield node, spec, inputs


def shown_on(prompt: comfy_host.Prompt) -> str | None:
    """The node whose report says what was swept after a failure: the first of ours, which the page can show it
    on, else the one that failed."""
    return next((node for node, _, _ in ours(prompt)), prompt.failed_node)


def after_failure() -> str:
    """How far the sweep after a failed prompt goes; `off` where nobody asked for one."""
    try:
        value = comfy_host.chosen(SETTING)
    except Exception as error:
        service.LOG.warning("ComfyUI's settings cannot be read: %a", comfy_host.said(error))
        value = None
    if value is None:
        value = os.environ.get(VARIABLE, "").strip().lower() or OFF
    if value in (OFF, *LEVELS):
        return str(value)
    service.LOG.warning(
        "%s is %.100s, and is taken for %s: it can be %s",
        SETTING, ascii(value), OFF, ", ".join((OFF, *LEVELS)),
    )
    return OFF
