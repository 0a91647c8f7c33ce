"""What an error says, and which errors are not ours to stop."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

# What ends the program or this thread. Anything else that is not an `Exception`, such as a panic of a native
# module, would end ComfyUI's worker for good if it were let through.
STOPS: tuple[type[BaseException], ...] = (
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
)


def said(error: BaseException) -> str:
    """Kind and message of an error; one that cannot even give its message does no harm."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def failed(error: str) -> dict[str, Any]:
    """The outcome of a step that went wrong."""
    return {"kind": "failed", "error": error}
