"""What a node reads when it runs, as its class says: its links, what leads to it, or anything."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import weakref
from collections.abc import Mapping
from types import FunctionType
from typing import Any

# What nodes of a class read, and the function that said so: asking again can be slow.
_READS: weakref.WeakKeyDictionary[type, tuple[Any, str]] = weakref.WeakKeyDictionary()
# What a hidden input may be that says nothing of other nodes' outputs. ComfyUI hands over more from time to time,
# and what we do not know counts as the whole prompt. A tuple: newer kinds equal a string and hash otherwise.
_HARMLESS = (
    "UNIQUE_ID", "PROMPT", "EXTRA_PNGINFO", "AUTH_TOKEN_COMFY_ORG", "API_KEY_COMFY_ORG",
    "COMFY_USAGE_SOURCE",
)


_AS_QUEUED = ("PROMPT", "EXTRA_PNGINFO")


@functools.cache
def _kinds_of_comfyui() -> tuple[str, ...] | None:
    """The kinds of hidden inputs that it hands over, as its own code names them; `None` where that cannot be
    read. Packs write words of their own there, which do nothing."""
    function = getattr(sys.modules.get("execution"), "get_input_data", None)
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if code is None:
        return None
    found = [text for text in code.co_consts if isinstance(text, str) and text.isupper()]
    newer = getattr(sys.modules.get("comfy_api.latest._io"), "Hidden", None)
    found += [str(member.value) for member in getattr(newer, "__members__", {}).values()]
    return tuple(found) if "DYNPROMPT" in found else None


def _is_whole_prompt(kind: Any) -> bool:
    known = _kinds_of_comfyui()
    if any(kind == harmless for harmless in _HARMLESS):
        return False
    return known is None or any(kind == one for one in (*known, "DYNPROMPT", "EXECUTION_LIST"))


def is_ours(cls: Any) -> bool:
    """Whether it is a class of this pack, or of another copy of it. Others have attributes of that name too."""
    return type(getattr(cls, "SPEC", None)).__qualname__ == "NodeSpec"


def reads_of(cls: Any) -> str:
    """What a node reads when it runs, as the core's `Reads`."""
    if is_ours(cls):
        return "links"
    # Another pack may exchange it at any time.
    says = getattr(getattr(cls, "INPUT_TYPES", None), "__func__", None)
    known, reads = _READS.get(cls, (None, ""))
    if says is None or known is not says:
        reads = _asked(cls)
        _READS[cls] = (says, reads)
    return reads


def _asked(cls: Any) -> str:
    """A node that gets the whole prompt, or where an input comes from, may become copies of nodes in
    it, or a node that does: so do the ends of loops. The copies link to outputs that it does not."""
    try:
        inputs = cls.INPUT_TYPES()
        # Nodes of the newer interface write the kind as a tuple.
        written = (k if isinstance(k, tuple) else (k,) for k in inputs.get("hidden", {}).values())
        kinds = list(itertools.chain.from_iterable(written))
        gets = any(map(_is_whole_prompt, kinds))
        # The prompt as it was queued names links too. Nodes that save read it, and only that.
        if not gets and any(kind == one for kind in kinds for one in _AS_QUEUED):
            gets = _writes(cls, "expand")
        if not gets and not any(_is_raw(inputs.get(part) or {}) for part in ("required", "optional")):
            return "links"
        # ComfyUI lets no node of the newer interface become others unless its schema says so.
        can = getattr(getattr(cls, "SCHEMA", None), "enable_expand", True)
        return "links" if can is False else "upstream"
    except Exception:
        return "anything"


def _writes(cls: type, text: str) -> bool:
    """Whether this text is in the code of a class or its module: a node that becomes others answers with it."""
    module = sys.modules.get(cls.__module__)
    if module is None:
        return True
    values = [value for owner in (module, *cls.__mro__) for value in list(vars(owner).values())]
    # Only functions are looked into: to ask another object for anything may run its code.
    functions = [value for value in values if type(value) in (FunctionType, staticmethod, classmethod)]
    codes = [getattr(getattr(value, "__func__", value), "__code__", None) for value in functions]
    while codes:
        for constant in getattr(codes.pop(), "co_consts", ()):
            # The keys of a literal are one tuple.
            if text in (constant if type(constant) is tuple else (constant,)):
                return True
            codes.append(constant)
    return False


def _is_raw(inputs: Mapping[str, Any]) -> bool:
    """Whether one of these inputs is handed over as the link itself."""
    options = (given[1] for given in inputs.values() if len(given) > 1)
    return any(isinstance(option, Mapping) and option.get("rawLink") for option in options)
