"""What every kind of holder is: memory, a writer that makes one call at a time, and a check of what it wrote."""

from __future__ import annotations

import threading
from collections.abc import Callable

from meter.native import native

# What is parked, and nothing else: the only place that holds it while no writer is inside.
HELD: dict[str, object] = {}


class Kind:
    """One kind of holder. `HELD` holds the memory; the kind itself must not."""

    # How long a call works before it changes something: doubled while few parks fit into one.
    times = 1
    most = 64

    @classmethod
    def not_here(cls) -> str | None:
        """Why this kind says nothing on this machine."""
        return None

    def start(self) -> object:
        """Begins one call on another thread; the answer has `join` and `is_alive`."""
        raise NotImplementedError

    def lost(self) -> int:
        """How many writes of the calls until now are missing. No call is running."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives back what is not memory."""


def thread(target: Callable, *arguments: object) -> threading.Thread:
    started = threading.Thread(target=target, args=arguments)
    started.start()
    return started


class Marked(threading.Thread):
    """A thread whose target does not itself say when it is inside."""

    def run(self) -> None:
        native.enter()
        try:
            super().run()
        finally:
            native.leave()


def marked(target: Callable, *arguments: object) -> threading.Thread:
    started = Marked(target=target, args=arguments)
    started.start()
    return started
