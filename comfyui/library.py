"""Finds the installed library, whatever else is called `memsweep` on the way to it.

This pack's own folder in `custom_nodes` is often called `memsweep`, and some packs put `custom_nodes`
on `sys.path`. Then `import memsweep` means this folder: by its `__init__.py`, or as a package without
one. A source checkout has the library's Python files, and no native module unless it was built there.
What sets the library apart from all of these is its native module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "memsweep"
NATIVE = f"{NAME}._memsweep"
HOSTING = f"{NAME}.hosting"
# What this pack asks for and 0.1 does not have.
NEEDED = (
    "Destroying", "Turns", "kept_error_notes", "memory_report", "memory_types", "note", "plain",
    "policy_of", "variables",
)


def hosting() -> Any:
    """The library's module for hosts. Raises what an import of it raises where it is not installed, and
    an `ImportError` for one that is older than this pack."""
    found = _hosting()
    if not all(hasattr(found, name) for name in NEEDED):
        raise ImportError("the installed memsweep is older than this pack: upgrade it")
    return found


def _hosting() -> Any:
    if HOSTING in sys.modules:
        return sys.modules[HOSTING]
    if NAME not in sys.modules:
        _import(_found())
    else:
        taken = sys.modules[NAME]
        # Anything that is not a package is somebody else's module, or an import that was forbidden.
        if hasattr(taken, "__path__") and not _has_native(taken.__path__):
            _join(taken, _found())
    return importlib.import_module(HOSTING)


def _found() -> ModuleSpec:
    for spec in _candidates():
        places = spec.submodule_search_locations
        # A single file of this name is not one of our folders: it is what Python would import.
        if places is None:
            return spec
        if spec.loader is not None and _has_native(places):
            return spec
    raise ModuleNotFoundError(f"No module named {NATIVE!r}", name=NATIVE)


def _candidates() -> Iterator[ModuleSpec]:
    """Everything called `memsweep`, in the order in which Python would come to it."""
    for finder in list(sys.meta_path):
        if finder is PathFinder:
            found = [PathFinder.find_spec(NAME, [entry]) for entry in list(sys.path)]
        else:
            # Installs that are only linked have finders of their own.
            find = getattr(finder, "find_spec", None)
            found = [] if find is None else [find(NAME, None)]
        yield from (spec for spec in found if spec is not None)


def _has_native(places: Any) -> bool:
    return PathFinder.find_spec(NATIVE, list(places)) is not None


class _Only:
    """A finder that knows one package."""

    def __init__(self, spec: ModuleSpec) -> None:
        self.spec = spec

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return self.spec if name == NAME else None


def _import(spec: ModuleSpec) -> None:
    only: Any = _Only(spec)
    sys.meta_path.insert(0, only)
    try:
        importlib.import_module(NAME)
    finally:
        sys.meta_path.remove(only)


def _join(taken: ModuleType, spec: ModuleSpec) -> None:
    """Makes the package that has the name already the library as well.

    Whoever imported it holds that very module, so it is not replaced, and what it has stays. Its
    parts are looked for among the library's first, and what it lacks of the library's names it gets.
    """
    if spec.loader is None or spec.submodule_search_locations is None:
        return
    before = dict(vars(taken))
    places = [*spec.submodule_search_locations, *taken.__path__]
    taken.__path__ = places
    try:
        spec.loader.exec_module(taken)
    except BaseException:
        for name in vars(taken).keys() - before.keys():
            delattr(taken, name)
        vars(taken).update(before)
        raise
    vars(taken).update(before, __path__=places)
