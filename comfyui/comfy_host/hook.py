"""The one hook: ComfyUI tells nobody that a prompt begins, that a node is done, or how a prompt ended.

Two functions of its classes are wrapped, which it looks up each time it calls them. What they are given and
what they answer stays as it is, and nothing that goes wrong here gets into a prompt. Where one is not there, or
is not a plain function, nothing is wrapped, and what needs the hook does not happen; the log says so once.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .assumptions import Off, is_off
from .errors import said

LOG = logging.getLogger("memsweep")
# Marks our wraps: a second copy of the pack leaves them alone.
_OURS = "__memsweep__"


class Prompt:
    """A prompt that an executor is running, or has just run, on this thread."""

    def __init__(self, executor: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = dict(zip(("prompt", "prompt_id", "extra_data"), arguments, strict=False))
        given.update(named)
        self.executor = executor
        # As it was queued: node ids with their classes and inputs.
        self.nodes = _mapping(given.get("prompt"))
        self.id = str(given.get("prompt_id"))
        self.metadata = _mapping(given.get("extra_data")).get("extra_pnginfo")
        self.is_over = False
        # The nodes of ours that ran.
        self.reached: set[str] = set()
        # Called once the node that is running now is done.
        self.after_node: list[Callable[[], Any]] = []

    @property
    def outcome(self) -> str:
        """`success`, `error` or `interrupted`, as the page was told; `unknown` where it was not."""
        messages = getattr(self.executor, "status_messages", None)
        events = [event for event, _ in messages] if isinstance(messages, list) else []
        last = str(events[-1]) if events else ""
        return last.removeprefix("execution_") if last in _ENDS else "unknown"

    @property
    def failed_node(self) -> str | None:
        """The id of the node at which it ended badly."""
        if self.outcome not in ("error", "interrupted"):
            return None
        _, data = self.executor.status_messages[-1]
        return str(data.get("node_id")) if isinstance(data, Mapping) else None


_ENDS = ("execution_success", "execution_error", "execution_interrupted")


class _Running(threading.local):
    """The prompts that run on a thread: a node may run another one inside."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []


_RUNNING = _Running()


def current() -> Prompt | None:
    """The innermost prompt that runs on this thread, where the hook sees it."""
    return _RUNNING.prompts[-1] if _RUNNING.prompts else None


def reached(node: Any, dynprompt: Any) -> None:
    """A node of ours runs in the prompt of this thread."""
    prompt = current()
    if prompt is None:
        return
    # In a loop it is a copy of the one that people see.
    shown = getattr(dynprompt, "get_display_node_id", str)
    with contextlib.suppress(Exception):
        prompt.reached.update((str(node), str(shown(node))))


def install(ended: Callable[[Prompt], None]) -> None:
    """Sets the hook, once. `ended` is called on the executor's thread when a prompt has ended, whatever
    its outcome, before ComfyUI's worker goes on to its history and to the next prompt."""
    if is_off(Off.ENDS) is not None:
        # The log says so already.
        return
    try:
        _set(ended)
    except Exception as error:
        LOG.warning("The hook at the end of a prompt cannot be set (%a): %s", said(error), Off.ENDS.value)


def _set(ended: Callable[[Prompt], None]) -> None:
    import execution
    from comfy_execution.graph import ExecutionList

    places = ((execution.PromptExecutor, "execute"), (ExecutionList, "complete_node_execution"))
    originals = [vars(owner).get(name) for owner, name in places]
    if any(hasattr(original, _OURS) for original in originals):
        return
    for (owner, name), original in zip(places, originals, strict=True):
        if not isinstance(original, types.FunctionType) or inspect.iscoroutinefunction(original):
            raise TypeError(f"{owner.__name__}.{name} is not the function it was")
    wraps = (_around_prompt(originals[0], ended), _after_node(originals[1]))
    for (owner, name), wrap in zip(places, wraps, strict=True):
        setattr(wrap, _OURS, True)
        setattr(owner, name, wrap)


def _around_prompt(original: Any, ended: Callable[[Prompt], None]) -> Any:
    @functools.wraps(original)
    def execute(self: Any, *arguments: Any, **named: Any) -> Any:
        prompt = Prompt(self, arguments, named)
        _RUNNING.prompts.append(prompt)
        try:
            answer = original(self, *arguments, **named)
            prompt.is_over = True
            with _contained():
                ended(prompt)
            return answer
        finally:
            _RUNNING.prompts.remove(prompt)

    return execute


def _after_node(original: Any) -> Any:
    @functools.wraps(original)
    def complete_node_execution(self: Any, *arguments: Any, **named: Any) -> Any:
        answer = original(self, *arguments, **named)
        prompt = current()
        while prompt is not None and prompt.after_node:
            with _contained():
                prompt.after_node.pop(0)()
        return answer

    return complete_node_execution


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Nothing that goes wrong between nodes or behind a prompt may end ComfyUI's worker."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        LOG.error("a sweep between nodes or after a prompt failed: %a", said(error))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
