"""A node that a loop runs again and again shows one report.

Each turn runs a copy of the node, and ComfyUI's history keeps what every copy showed for as long as
the server runs, under an id that grows with each turn. So only the first shows anything there, and
what it showed is brought up to date.
"""

from __future__ import annotations

import weakref
from typing import Any


class Shown:
    """What a node and its copies showed in one prompt."""

    def __init__(self, hosting: Any, beside: Shown | None = None) -> None:
        self.turns: Any = hosting.Turns(None if beside is None else beside.turns)
        # The id of the first that ran: the history has the report under it.
        self.first = ""
        self._answer: dict[str, Any] | None = None

    def is_first(self, answer: dict[str, Any], node: str) -> bool:
        """Whether this is the first answer, to be shown as ComfyUI's nodes show theirs. It says what
        the last one says: answers have the same keys, because ComfyUI may be writing this one."""
        if self._answer is None:
            self._answer, self.first = answer, node
            return True
        self._answer.update(answer)
        return False


_OF_PROMPT: weakref.WeakKeyDictionary[Any, dict[Any, Shown]] = weakref.WeakKeyDictionary()


def of(hosting: Any, prompt: Any, place: tuple[str, ...]) -> Shown:
    """What was shown at a place of the workflow that people see: class of the node, id of the one that people
    see, and the way from there."""
    try:
        known = _OF_PROMPT.setdefault(prompt, {})
    except TypeError:
        # Not a prompt as ComfyUI makes them.
        return Shown(hosting)
    # A pack's node can become all turns of a loop at once, and name the nodes in them as it likes.
    there = place[:2]
    if place not in known:
        known[place] = Shown(hosting, known.get(there))
    known[there] = known[place]
    return known[place]
