"""What people call the nodes of a workflow: the titles that the front-end shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


class Titles:
    """The titles of one prompt. Everything read here comes from outside, and none of it is needed: what does
    not have the expected shape gives no title."""

    def __init__(self, prompt: Any, metadata: Any) -> None:
        """`metadata` is what the front-end sent along with the prompt, if anything."""
        self._prompt = prompt
        self._given = dict(_given(metadata))
        self._found: dict[str, tuple[str, Mapping[str, Any]]] = {}

    def of(self, node_id: str) -> str | None:
        """The title that its user gave, or the display name of its class. A node that another one expanded to
        has the title of the one that the front-end shows in its place."""
        shown, node = self._shown(node_id)
        class_key, meta = _text(node.get("class_type")), node.get("_meta")
        return (
            self._given.get((shown, class_key))
            or _text(meta.get("title") if isinstance(meta, Mapping) else None)
            or _display_name(class_key)
        )

    def name(self, node_id: str) -> str:
        """`#6 VAE Decode`, named as in the core's `names.rs`, for texts made without a plan."""
        shown, node = self._shown(node_id)
        title = self.of(node_id) or _text(node.get("class_type"))
        return f"#{shown} {title.strip()}" if title else f"#{shown}"

    def shown(self, node_id: str) -> str:
        """The id that the front-end shows: of the node that a loop's copy was made from."""
        return self._shown(node_id)[0]

    def place(self, node_id: str) -> tuple[str, str]:
        """The same for a node and for each copy that a loop makes of it: the node that people see, and
        the way from there to one that a pack's node became."""
        shown, parts = self.shown(node_id), node_id.split(".")
        # ComfyUI's own loops put the number of the turn before the id.
        of_turn = re.compile(rf"(\d+_)?{re.escape(shown)}")
        copies = [number for number, part in enumerate(parts) if of_turn.fullmatch(part)]
        return shown, ".".join(parts[copies[-1] + 1 :]) if copies else node_id

    def _shown(self, node_id: str) -> tuple[str, Mapping[str, Any]]:
        if node_id not in self._found:
            self._found[node_id] = self._look(node_id)
        return self._found[node_id]

    def _look(self, node_id: str) -> tuple[str, Mapping[str, Any]]:
        try:
            shown = self._prompt.get_display_node_id(node_id)
            node = self._prompt.get_node(shown)
        except Exception:
            return node_id, {}
        return shown, node if isinstance(node, Mapping) else {}


def _given(metadata: Any) -> Iterator[tuple[tuple[str, str | None], str]]:
    """The titles in the saved workflow, which holds those that were changed. By id and class: the
    metadata of another workflow may be sent along."""
    workflow = metadata.get("workflow") if isinstance(metadata, Mapping) else None
    nodes = workflow.get("nodes") if isinstance(workflow, Mapping) else None
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, Mapping):
            title, class_key = _text(node.get("title")), _text(node.get("type"))
            if title and class_key:
                yield (str(node.get("id")), class_key), title


def _display_name(class_key: str | None) -> str | None:
    import nodes as registry

    titles = getattr(registry, "NODE_DISPLAY_NAME_MAPPINGS", None)
    return _text(titles.get(class_key)) if isinstance(titles, Mapping) else None


def _text(value: Any) -> str | None:
    """The text, unless it is blank."""
    return value if isinstance(value, str) and value.strip() else None
