"""One sweep for one node: widgets to settings, facts from the host, report out.

Nothing raises into a workflow except a cancel. Without the native module the data passes and the
report says what to install.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import sys
import traceback
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from . import comfy_host, library, turns
from .spec import AFTER_FAILURE, NodeSpec

LOG = logging.getLogger("memsweep")

INSTALL = (
    "MemSweep freed nothing: its native module is not installed in this Python, or is too old. "
    "Run `python -m pip install -r requirements.txt` in the MemSweep folder, or "
    "in a git clone `python -m pip install .` to build it with Rust, then restart ComfyUI. "
    "The data was passed on."
)


def run(
    spec: NodeSpec,
    values: Mapping[str, Any],
    widgets: Mapping[str, Any],
    unique_id: Any,
    metadata: Any,
    dynprompt: Any,
) -> dict[str, Any]:
    """Sweeps for one node and answers with `text` and `report`; in later turns of a loop also with
    `told`, because the front-end has it already."""
    try:
        hosting = library.hosting()
    except comfy_host.STOPS:
        raise
    except BaseException as error:
        why = ascii(comfy_host.said(error))
        LOG.warning("%s (%s)", INSTALL, why)
        return _problem(INSTALL, why)
    passing, name = comfy_host.STOPS, f"#{unique_id}"
    try:
        host = comfy_host.ComfyHost(hosting, unique_id, dynprompt, metadata)
        passing, name = host.passing, host.name
        shown = turns.of(hosting, dynprompt, (spec.key, *host.place))
        if spec.task == "read":
            answer = _read(hosting, host)
        else:
            answer = _sweep(hosting, host, spec, values, widgets, shown.turns)
        if shown.is_first(answer, str(unique_id)):
            return answer
        host.tell(ui_of(answer), shown.first)
        return {**answer, "told": True}
    except passing:
        raise
    except BaseException as error:
        _log_error(hosting, "the sweep of %s failed", name, error)
        return _problem(
            "MemSweep stopped. The data was passed on; the log has the details.",
            _plain(hosting, comfy_host.said(error)),
        )


def run_at_end(
    spec: NodeSpec, widgets: Mapping[str, Any], node: str | None, prompt: comfy_host.Prompt
) -> None:
    """Sweeps for a node that a prompt did not reach, or after one that failed, and shows the report on
    `node`. Nothing stops it but the end of the program, and nothing it raises reaches the prompt."""
    try:
        hosting = library.hosting()
        dynprompt = getattr(prompt.executor.caches.outputs, "dynprompt", None)
        host = comfy_host.ComfyHost(hosting, node or "", dynprompt, prompt.metadata, prompt)
    except Exception as error:
        LOG.warning("%s: %a", spec.title, comfy_host.said(error))
        return
    why = hosting.note("not_reached")
    if spec is AFTER_FAILURE:
        why = hosting.note("after_failure", cancelled=prompt.outcome == "interrupted")
        host.name = spec.title
    try:
        with hosting.inference_mode():
            answer = _sweep(hosting, host, spec, {}, widgets, None, [why])
        if node is not None:
            host.show_at_end(ui_of({**answer, "at_end": True}))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A cancel too ends the sweep, and nothing else.
        _log_error(hosting, "the sweep of %s failed", host.name, error)


def ui_of(answer: dict[str, Any]) -> dict[str, Any]:
    """What ComfyUI shows of an answer."""
    return {"text": (answer["text"],), "memsweep": (answer,)}


def _sweep(
    hosting: Any,
    host: comfy_host.ComfyHost,
    spec: NodeSpec,
    values: Mapping[str, Any],
    widgets: Mapping[str, Any],
    earlier: Any,
    notes: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    parking, warnings = _parking(hosting)
    settings = {
        "level": spec.level_for(widgets),
        "system_wide": bool(widgets.get("system_wide", False)),
        "park": parking,
    }
    inventory: dict[str, Any] = {}
    policy = hosting.policy_of(settings)
    if policy.needs_facts:
        protected = dict(values)
        targets = None
        if spec.task == "release_model":
            targets = [protected.pop("model", None)]
        inventory = _facts(hosting, host, protected, targets)
        inventory.setdefault("notes", []).extend(_none_notes(hosting, protected))
        del protected, targets
    else:
        inventory["notes"] = _none_notes(hosting, values)
    inventory.setdefault("notes", [])[:0] = notes
    inventory["notes"].extend([*warnings, *_kept_error_notes(hosting, host)])
    try:
        report = hosting.sweep_with(host, policy, inventory, earlier)
    except BaseException as stop:
        # The log is all that a cancelled prompt leaves. Nothing here may stand in the cancel's way.
        with contextlib.suppress(Exception):
            carried: Any = stop
            LOG.info("%s: %s", _logged(hosting, host.name), carried.memsweep_report.summary)
        raise
    if spec.task == "release_model":
        host.after_node(lambda: LOG.info("after Release Model: %s", _again(hosting)))
    LOG.info("%s: %s", _logged(hosting, host.name), report.summary)
    return _answer(str(report), report.to_json())


def _parking(hosting: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the environment says about parking. A mistake there parks nothing, and is reported."""
    try:
        return hosting.park_settings(), []
    except Exception as error:
        return {"off": True}, [hosting.note("parking_misconfigured", error=str(error))]


def _again(hosting: Any) -> str:
    """Frees what a node held until it returned."""
    summary: str = hosting.sweep(parking={"off": True}).summary
    return summary


def _kept_error_notes(hosting: Any, host: comfy_host.ComfyHost) -> list[dict[str, Any]]:
    """What errors keep alive, which no sweep can free. Failing to find out is no reason to stop."""
    try:
        notes: list[dict[str, Any]] = hosting.kept_error_notes()
        return notes
    except host.passing:
        raise
    except BaseException as error:
        _log_error(hosting, "%s: it could not be determined what errors keep alive", host.name, error)
        return []


def _facts(
    hosting: Any,
    host: comfy_host.ComfyHost,
    protected: dict[str, Any],
    targets: list[Any] | None,
) -> dict[str, Any]:
    """The facts of a plan. Without them it holds only steps that need none, which harm nobody."""
    try:
        return host.inventory(protected, targets)
    except host.passing:
        raise
    except BaseException as error:
        _log_error(hosting, "%s: it could not be determined what is in use", host.name, error)
        why = comfy_host.said(error)
        return {
            "notes": [hosting.note("facts_unknown", error=why)],
            # Whatever depends on it is left out.
            "executor": {
                "kind": "unidentified",
                "reason": f"it could not be determined what is in use: {why}",
            },
        }


def _read(hosting: Any, host: comfy_host.ComfyHost) -> dict[str, Any]:
    models = json.dumps(host.loaded_models())
    notes = json.dumps(_kept_error_notes(hosting, host))
    return _answer(*hosting.memory_report(hosting.read(host), models, notes))


def _none_notes(hosting: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        hosting.note("input_is_none", input=name)
        for name, value in values.items()
        if value is None
    ]


def _answer(text: str, report: str) -> dict[str, Any]:
    return {"text": text, "report": _packed(report)}


def _problem(what: str, why: str) -> dict[str, Any]:
    """The answer where there is no report."""
    text = f"{what}\n({why})"
    return {"text": text, "report": None, "problem": {"what": what, "why": why}}


def _plain(hosting: Any, text: str) -> str:
    """Text from outside for one line."""
    shown: str = hosting.plain(text)
    return shown


def _logged(hosting: Any, text: str) -> str:
    """The same in characters that the log can write: a Windows console lacks some that a title may have."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return _plain(hosting, text).encode(encoding, "backslashreplace").decode(encoding)


def _log_error(hosting: Any, message: str, node: str, error: BaseException) -> None:
    """An error with its traceback. Nothing in it can pass for a line of the log."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    lines = [f"    | {_logged(hosting, line)}" for line in trace.rstrip("\n").split("\n")]
    LOG.error(f"{message}:\n%s", _logged(hosting, node), "\n".join(lines))


def _packed(report: str) -> str:
    """ComfyUI keeps what a node shows for up to 10 000 prompts: as objects 20 KB a sweep, as JSON
    text 4 KB, so packed 1.5 KB."""
    return base64.b64encode(zlib.compress(report.encode())).decode()
