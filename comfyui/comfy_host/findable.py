"""Which cached outputs no later prompt can find: something in their key equals nothing but itself, and is nowhere
else to be had."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .assumptions import Off, is_off


class Keys:
    """The keys of what a prompt's nodes gave."""

    def __init__(self, caches: Iterable[Any], prompt: Any) -> None:
        self._caches = list(caches)
        self._prompt = prompt
        self._known: list[Iterable[Any]] | None = None

    def is_unfindable(self, key: Any) -> bool:
        if is_off(Off.FINDING) is not None:
            return False
        # A tensor among the inputs stands in a key as an object of ComfyUI's own.
        if any(map(_is_unhashable, _parts([key]))):
            return True
        nans = {id(part): part for part in _parts([key]) if type(part) is float and part != part}
        return bool(nans) and self._is_one_held_by_keys_alone(nans)

    def _is_one_held_by_keys_alone(self, nans: Mapping[int, float]) -> bool:
        """By keys, and by the answer of `IS_CHANGED` that they were made from. In a tuple a NaN equals itself: one
        that is held anywhere else (`math.nan`, a node's own) may stand in the key of a later prompt."""
        if self._known is None:
            # Of an answer its list alone is ComfyUI's. What is in it may be somebody's tuple.
            lists = {id(answer): answer for answer in self._answers() if type(answer) is list}
            self._known = [*_containers(list(self._keys())), *lists.values()]
        held = Counter(id(part) for whole in self._known for part in whole if id(part) in nans)
        held.update(map(id, self._answers()))
        alone = {0: float("nan")}
        own = sys.getrefcount(alone[0])
        return any(sys.getrefcount(nans[number]) - own == held[number] for number in nans)

    def _keys(self) -> Iterator[Any]:
        for cache in self._caches:
            yield from list(cache.cache)
            yield from list(getattr(cache.cache_key_set, "keys", {}).values())

    def _answers(self) -> Iterator[Any]:
        """What `IS_CHANGED` answered, once for each place that has it: the node, and what remembers it for the
        prompt, which all caches share. A node of which it could not be asked has a bare NaN."""
        for node_id in self._prompt.all_node_ids():
            node = self._prompt.get_node(node_id)
            if isinstance(node, Mapping):
                yield node.get("is_changed")
        found = (getattr(cache, "is_changed_cache", None) for cache in self._caches)
        for one in {id(remembering): remembering for remembering in found}.values():
            yield from list(getattr(one, "is_changed", {}).values())


def _is_unhashable(part: Any) -> bool:
    return type(part).__name__ == "Unhashable" and "__eq__" not in type(part).__dict__


def _parts(roots: list[Any]) -> Iterator[Any]:
    for whole in _containers(roots):
        yield from whole


def _containers(roots: list[Any]) -> Iterator[Iterable[Any]]:
    """These and what is in them, each once: keys share parts."""
    seen = set()
    while roots:
        part = roots.pop()
        if type(part) in (tuple, frozenset) and id(part) not in seen:
            seen.add(id(part))
            roots += part
            yield part
