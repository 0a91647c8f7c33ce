"""Entries of ComfyUI's output cache: what they hold, and how one is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .assumptions import Off, is_off

SIDE_TABLES = ("used_generation", "timestamps", "children")
PLAIN = (str, int, float, bool, type(None))


class Unidentified(Exception):
    """The executor around us is not of a shape we know."""


class Entry:
    """One cache entry and where it sits."""

    def __init__(self, cache: Any, key: Any, entry: Any) -> None:
        self.cache, self.key, self.entry = cache, key, entry
        self.nodes: list[str] = []
        self.made_now = False
        # An output node reads it.
        self.feeds = False

    @property
    def outputs(self) -> Any:
        # Old versions cache the bare list of outputs.
        return self.entry if isinstance(self.entry, list) else getattr(self.entry, "outputs", None)

    def evict(self) -> bool:
        """The cache's own eviction: the entry first, then the side tables that index by it.

        Wholly or not at all: a table that raises, or keeps the key, gets everything back.
        """
        if self.cache.cache.get(self.key) is not self.entry:
            return False
        tables = [getattr(self.cache, name, {}) for name in ("cache", *SIDE_TABLES)]
        # Entries found at the start of this prompt are also held by the executor until it ends.
        # Emptying the list frees them; a provider may still be storing the same list, though.
        held = self.nodes and not self.made_now and not isinstance(self.entry, list)
        may_empty = held and is_off(Off.EMPTYING) is None and not _has_providers()
        emptied = self.outputs if may_empty else None
        taken = []
        try:
            for table in tables:
                if self.key in table:
                    taken.append((table, table[self.key]))
                    del table[self.key]
                    if self.key in table:
                        raise RuntimeError("its cache kept it")
        except BaseException:
            # The cache last: if a side table takes nothing back, an entry that is gone does less harm
            # than one that the cache holds and its next clean-up cannot find.
            for table, value in reversed(taken):
                if self.key not in table:
                    table[self.key] = value
            raise
        if isinstance(emptied, list):
            emptied.clear()
        return True

    def has_ui(self) -> bool:
        shown = getattr(self.entry, "ui", None)
        output = shown.get("output") if isinstance(shown, Mapping) else None
        # Our own pass-through nodes show a report, which nobody needs again.
        return shown is not None and not (isinstance(output, Mapping) and "memsweep" in output)


def all_caches(cache: Any) -> Iterator[Any]:
    if hasattr(cache, "cache"):
        yield cache
        for inner in list(getattr(cache, "subcaches", {}).values()):
            if not hasattr(inner, "cache"):
                raise Unidentified(f"its output cache holds a {type(inner).__name__}")
            yield from all_caches(inner)


def is_readable(entry: Entry) -> bool:
    return isinstance(entry.outputs, list)


def is_plain(slot: Any) -> bool:
    return isinstance(slot, (list, tuple)) and all(type(value) in PLAIN for value in slot)


def _has_providers() -> bool:
    try:
        from comfy_execution import cache_provider
    except ImportError:
        # Older versions have none.
        return False
    has: Any = getattr(cache_provider, "_has_cache_providers", None)
    return has is None or bool(has())
