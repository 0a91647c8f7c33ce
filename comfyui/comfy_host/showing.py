"""Shows what a node shows where ComfyUI does not: in a loop's turn, and when its prompt has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from .frames import execute_frames
from .hook import Prompt


def tell(
    node: str, shown: str, first: str, output: Mapping[str, Any],
    variables: Callable[[FrameType], dict[str, Any]],
) -> None:
    """Sends what the executor sends when a node has shown something, and brings up to date what the node
    `first` left in the history."""
    for frame in execute_frames():
        values = variables(frame)
        server = values["server"]
        if server.client_id is not None:
            message = {
                "node": node, "display_node": shown, "output": output,
                "prompt_id": values["prompt_id"],
            }
            server.send_sync("executed", message, server.client_id)
        in_history = values["ui_outputs"][first]["output"]
        in_history["text"][:] = output["text"]
        # Newer versions put a copy there of what the node gave.
        in_history["memsweep"][0].update(output["memsweep"][0])
        return


def show_at_end(prompt: Prompt, node: str, shown: str, output: Mapping[str, Any]) -> None:
    """Adds what a node shows to a prompt that has ended, as the executor does while it runs."""
    result = prompt.executor.history_result
    # It may have shown something before it failed.
    output = {**result["outputs"].get(node, {}), **output}
    result["outputs"][node] = output
    result.get("meta", {})[node] = {
        "node_id": node, "display_node": shown, "parent_node": None, "real_node_id": node,
    }
    server = prompt.executor.server
    if server.client_id is not None:
        message = {"node": node, "display_node": shown, "output": output, "prompt_id": prompt.id}
        server.send_sync("executed", message, server.client_id)
