"""What playing random workflows comes to: a broken promise, or counts of what really happened."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field


class CounterExample(AssertionError):
    """A promise was broken."""


@dataclass
class Tally:
    """What really happened, over all cases of a test."""

    counts: collections.Counter = field(default_factory=collections.Counter)

    def line(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
