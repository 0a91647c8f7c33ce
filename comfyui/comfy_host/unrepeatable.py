"""What must not be computed again: nodes that cost money or give another result each time, by their class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_MARKS = ("API_NODE", "NOT_IDEMPOTENT")


def is_unrepeatable(cls: Any) -> bool:
    """Whether its class says so, in whatever way ComfyUI takes for a yes."""
    try:
        return any(getattr(cls, mark, False) for mark in _MARKS)
    except Exception:
        # A mark that cannot be asked.
        return True


def leads_to_one(cache: Any, key: Any, nodes: Iterable[str]) -> bool:
    """Whether the entry came from such a node, in whichever workflow, or from one that became such nodes. These have
    entries of their own, but only this one leads to them: what was handed on inside is part of their keys."""
    return any(is_unrepeatable(_class_of(key)) for key in _family(cache, key, nodes))


def _family(cache: Any, key: Any, nodes: Iterable[str]) -> Iterator[Any]:
    """A key, and those of all that its node became."""
    seen, left = set(), [key]
    # One kind of cache lists the keys there,
    children: Mapping[Any, Iterable[Any]] = getattr(cache, "children", {})
    # the other has a cache of its own for what a node became.
    inside: Mapping[Any, Any] = getattr(cache, "subcaches", {})
    if inside:
        for node in nodes:
            left += _keys_in(inside.get(cache.cache_key_set.get_subcache_key(node)))
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            yield one
            left += children.get(one, ())


def _keys_in(cache: Any) -> Iterator[Any]:
    yield from getattr(cache, "cache", ())
    for inner in getattr(cache, "subcaches", {}).values():
        yield from _keys_in(inner)


def _class_of(key: Any) -> Any:
    """The class of the node whose key this is: the first part of what it says of that node, which comes first."""
    import nodes as registry

    name = key[1] if isinstance(key, tuple) and len(key) == 2 else _first(_first(key))
    return registry.NODE_CLASS_MAPPINGS.get(name) if isinstance(name, str) else None


def _first(row: Any) -> Any:
    """Of a list as keys have it: pairs of number and part."""
    pairs = row if isinstance(row, frozenset) else ()
    return next((pair[1] for pair in pairs if isinstance(pair, tuple) and pair[:1] == (0,)), None)
