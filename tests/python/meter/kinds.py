"""Every kind of holder, by the library it needs."""

from __future__ import annotations

import importlib
import importlib.util

FAMILIES = {"holders": None, "reading": None, "arrays": "numpy", "tensors": "torch"}
# Where an interpreter does not reveal the memory, nothing moves it.
MAY_BE_HIDDEN = {"recv_into of a BytesIO buffer"}


def lacking(family: str) -> str | None:
    """The library that is not installed."""
    needed = FAMILIES[family]
    return None if needed is None or importlib.util.find_spec(needed) else needed


def load(family: str) -> dict:
    return importlib.import_module(f"meter.{family}").KINDS
