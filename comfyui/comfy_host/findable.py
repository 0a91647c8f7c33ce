"""Which cached outputs no later prompt can find: something in their key equals nothing but itself, and is nowhere
else to be had."""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .assumptions import Off, is_off

# By the id of a NaN: the ids of what holds it, and how often.
Holders = dict[int, dict[int, int]]


class Looked(NamedTuple):
    """What a key was found to consist of."""

    # Its id says nothing of another one while it is held here.
    key: Any
    is_unhashable: bool
    nans: Holders


# The keys that were looked through in a prompt. In a loop that carries values on, the keys of each turn tell of all
# turns before.
_KNOWN: weakref.WeakKeyDictionary[Any, dict[int, Looked]] = weakref.WeakKeyDictionary()


class Keys:
    """The keys of what a prompt's nodes gave."""

    def __init__(self, caches: Iterable[Any], prompt: Any) -> None:
        self._caches = list(caches)
        self._prompt = prompt
        try:
            self._known = _KNOWN.setdefault(prompt, {})
        except TypeError:
            # Not a prompt as ComfyUI makes them.
            self._known = {}
        self._held: Counter[int] | None = None

    def is_unfindable(self, key: Any) -> bool:
        if is_off(Off.FINDING) is not None:
            return False
        looked = self._looked(key)
        # A tensor among the inputs stands in a key as an object of ComfyUI's own.
        if looked.is_unhashable or not looked.nans:
            return looked.is_unhashable
        nans = {id(part): part for whole in _containers(key) for part in whole if _is_nan(part)}
        return self._is_one_held_by_keys_alone(nans)

    def _looked(self, key: Any) -> Looked:
        if id(key) not in self._known:
            self._known[id(key)] = _look(key)
        return self._known[id(key)]

    def _is_one_held_by_keys_alone(self, nans: Mapping[int, float]) -> bool:
        """By keys, and by the answer of `IS_CHANGED` that they were made from. In a tuple a NaN equals itself: one
        that is held anywhere else (`math.nan`, a node's own) may stand in the key of a later prompt."""
        if self._held is None:
            self._held = self._count()
        alone = {0: float("nan")}
        own = sys.getrefcount(alone[0])
        return any(sys.getrefcount(nans[number]) - own == self._held[number] for number in nans)

    def _count(self) -> Counter[int]:
        """How often each NaN is held in these places."""
        for key in self._keys():
            self._looked(key)
        # Each holder once: keys may share parts.
        places: Holders = {}
        for looked in self._known.values():
            for number, holders in looked.nans.items():
                places.setdefault(number, {}).update(holders)
        held = Counter({number: sum(holders.values()) for number, holders in places.items()})
        # Of an answer its list alone is ComfyUI's. What is in it may be somebody's tuple.
        lists = {id(answer): answer for answer in self._answers() if type(answer) is list}
        held.update(id(part) for one in lists.values() for part in one)
        held.update(map(id, self._answers()))
        return held

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


def _is_nan(part: Any) -> bool:
    return type(part) is float and part != part


def _look(key: Any) -> Looked:
    is_unhashable, nans = False, Holders()
    for whole in _containers(key):
        for part in whole:
            if _is_nan(part):
                holders = nans.setdefault(id(part), {})
                holders[id(whole)] = holders.get(id(whole), 0) + 1
            is_unhashable = is_unhashable or _is_unhashable(part)
    return Looked(key, is_unhashable, nans)


def _containers(key: Any) -> Iterator[Iterable[Any]]:
    """A key and what it consists of, each once."""
    seen, left = set(), [key]
    while left:
        part = left.pop()
        if type(part) in (tuple, frozenset) and id(part) not in seen:
            seen.add(id(part))
            left += part
            yield part
