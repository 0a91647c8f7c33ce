"""Plays a case twice, with MemSweep's nodes and without, and compares what a user would see."""

from __future__ import annotations

import collections
import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness import toys
from harness.executor import Runner, quiet

from graphs import zoo_flow, zoo_state
from graphs.beside import Beside
from graphs.case import Case
from graphs.outcome import CounterExample, Tally
from graphs.prompts import Player
from graphs.watch import Idle, Watch, place

# Of float32: a little more than the 1 MiB at which parking begins.
LARGE = 270_000


@dataclass
class Seen:
    """What one prompt gave."""

    ok: bool
    # Kind, node, exception and message of the error.
    error: tuple | None
    saved: dict[str, list]
    written: list[tuple[str, str]]
    ran: collections.Counter
    # The result of the executor beside ours, where there was one.
    beside: list | None = None


def check(case: Case, cache: str, tally: Tally) -> None:
    """Raises `CounterExample` when the nodes changed anything they must not change.

    Three plays: the workflow without our nodes says what the results must be; with our nodes,
    but without their sweeps, which nodes run; and then the real one.

    `destroy` takes memory that a pack holds and nobody needs, and whoever uses it meets an error. That
    is no licence to change a result: what is connected, needed by a node still to run or held by a
    cache that stays is protected, and a pack that keeps tensors does what the error says and loads
    them again, as the toy nodes do. So the comparison is the same for this level, and a
    `DestroyedError` that comes out of a prompt is a counter-example.
    """
    with _sizes(case.parks):
        expected = _play(case, Runner(cache), with_sweeps=False)
        with Idle():
            idle = _play(case, Runner(cache), with_sweeps=True)
        runner = Runner(cache)
        # Not by `with`: that would hold it, and with it the executor, where no walk can look.
        watch = Watch(runner, tally, case.looks_for_hidden)
        watch.begin()
        try:
            judge = Judge(expected, idle, runner, watch, tally)
            _play(case, runner, with_sweeps=True, judge=judge)
        finally:
            watch.end()
    tally.counts["cases"] += 1
    tally.counts["cases with parking"] += case.parks
    tally.counts["cases beside another executor"] += case.beside is not None


@contextlib.contextmanager
def _sizes(parks: bool) -> Iterator[None]:
    """Small tensors, or tensors that are large enough to be parked."""
    small, toys.ELEMENTS = toys.ELEMENTS, LARGE if parks else toys.ELEMENTS
    toys.OWNED_BY_TORCH = parks
    os.environ["MEMSWEEP_PARK"] = "on" if parks else "off"
    try:
        yield
    finally:
        toys.ELEMENTS, toys.OWNED_BY_TORCH = small, False
        del os.environ["MEMSWEEP_PARK"]


@dataclass
class Judge:
    """Compares each prompt of the real play with the same one of the other two."""

    expected: list[Seen]
    idle: list[Seen]
    runner: Runner
    watch: Watch
    tally: Tally
    # A prompt that failed ran some of its nodes. Which ones depends on the order, and a sweep
    # changes that; from there on only results can be compared, not who ran.
    in_step: bool = True
    # What output nodes showed in earlier prompts.
    shown: set = field(default_factory=set)

    def compare(self, number: int, seen: Seen) -> None:
        where = f"prompt {number} of {self.runner.cache}"
        expected, idle = self.expected[number], self.idle[number]
        if seen.error != expected.error or seen.ok != expected.ok:
            raise CounterExample(f"{where}: {seen.error} instead of {expected.error}")
        if seen.beside != expected.beside:
            raise CounterExample(
                f"{where}: the other executor got {seen.beside} instead of {expected.beside}"
            )
        # A sweep at the end makes output nodes run that nobody else asked for in this prompt. They are in no
        # play without our nodes, only in the idle one; and when a later prompt does ask for them, they have
        # already shown their result.
        wanted = idle.saved | {
            node: values
            for node, values in expected.saved.items()
            if (node, *values) not in self.shown
        }
        self.shown |= {(node, *values) for node, values in seen.saved.items()}
        if seen.ok and seen.saved != wanted:
            raise CounterExample(f"{where}: {seen.saved} instead of {wanted}")
        self.in_step = self.in_step and (seen.ok or seen.ran == idle.ran)
        if not self.in_step:
            return
        if sorted(seen.written) != sorted(idle.written):
            raise CounterExample(f"{where}: output nodes wrote {seen.written}, not {idle.written}")
        for node, times in (seen.ran - idle.ran).items():
            self.tally.counts["nodes run again"] += times
            if not was_evicted(self.runner, node, self.watch.evicted_keys):
                raise CounterExample(f"{where}: {node} ran again, and no sweep had dropped it")


def was_evicted(runner: Runner, node: str, evicted: set) -> bool:
    # A node made by an expansion runs again with the node that makes it.
    return any(place(runner, name)[1] in evicted for name in {node, node.split(".")[0]})


def _play(case: Case, runner: Runner, with_sweeps: bool, judge: Judge | None = None) -> list[Seen]:
    import comfy.model_management as management

    player, found = Player(case, with_sweeps), []
    # Only sweeps collect, so that what a node left in a cycle is there for them to find.
    gc.disable()
    try:
        for number, turn in enumerate(case.turns):
            if turn.free:
                management.unload_all_models()
                runner.reset()
            prompt, asked = player.prompt(turn)
            found.append(_turn(case, number, runner, prompt, asked))
            if judge is not None:
                judge.compare(number, found[-1])
                runner.check_side_tables()
    finally:
        management.unload_all_models()
        zoo_state.forget()
        toys.forget()
        gc.enable()
        gc.collect()
    return found


def _turn(case: Case, number: int, runner: Runner, prompt: dict, asked: list[str]) -> Seen:
    if case.beside is None or case.beside[0] != number:
        return _one(runner, prompt, asked)
    other = Beside(runner.cache, case.beside[1])
    with other.half_way():
        seen = _one(runner, prompt, asked)
    seen.beside = other.shown
    return seen


def _one(runner: Runner, prompt: dict, asked: list[str]) -> Seen:
    zoo_flow.WRITTEN.clear()
    runner.server.executing.clear()
    with quiet():
        result = runner.run(prompt, asked)
    error = None
    for kind, data in result.messages:
        if kind == "execution_error":
            error = (kind, data["node_id"], data["exception_type"], data["exception_message"])
        elif kind == "execution_interrupted":
            error = (kind, data["node_id"])
    ran = collections.Counter(runner.server.executing)
    return Seen(result.ok, error, result.saved(), list(zoo_flow.WRITTEN), ran)
