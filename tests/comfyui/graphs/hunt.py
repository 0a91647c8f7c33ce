"""Runs the generator until it has played enough cases or found a counter-example."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from graphs.case import cases
from graphs.outcome import Tally


def hunt(play: Any, cache: str, count: int, number: int, tally: Tally, shrink: bool = True) -> None:
    """Plays `count` cases drawn from seed `number`; raises the first, smallest counter-example."""

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        # Without the phase that explains a failure: it plays many more cases to say little.
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def play_case(case):
        play.check(case, cache, tally)

    play_case()
