"""What a host answers, in the shapes of docs/report-format.md."""

from __future__ import annotations

from typing import Any


def done(detail: str | None = None) -> dict[str, Any]:
    """The outcome of a step that succeeded and claims no bytes."""
    return {"kind": "done", "claimed": None, "detail": detail}


def nothing(kind: str, **fields: Any) -> dict[str, Any]:
    """The outcome of a step that had nothing to do, with one of the reasons in docs/report-format.md.

    A reason of your own: `nothing("other", text="...")`.
    """
    return {"kind": "nothing_to_do", "because": {"kind": kind, **fields}}


def unsupported(kind: str, **fields: Any) -> dict[str, Any]:
    """The outcome of a step that cannot be done here; `kind` as for `nothing`."""
    return {"kind": "unsupported", "because": {"kind": kind, **fields}}


def note(kind: str, **fields: Any) -> dict[str, Any]:
    """A note for an inventory; `kind` as for `nothing`."""
    return {"because": {"kind": kind, **fields}}
