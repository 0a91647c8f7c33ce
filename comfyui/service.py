"""One sweep for one node: widgets to settings, facts from the host, report out.

Nothing raises into a workflow except a cancel. Without the native module the data passes and the
report says what to install.
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Mapping
from typing import Any

from . import comfy_host, library
from .spec import NodeSpec

LOG = logging.getLogger("memsweep")

INSTALL = (
    "MemSweep freed nothing: its native module is not installed in this Python. "
    "Run `python -m pip install -r requirements.txt` in the MemSweep folder, or "
    "in a git clone `python -m pip install .` to build it with Rust, then restart ComfyUI. "
    "The data was passed on."
)


def run(
    spec: NodeSpec,
    values: Mapping[str, Any],
    widgets: Mapping[str, Any],
    unique_id: Any,
    dynprompt: Any,
) -> dict[str, Any]:
    """Sweeps for one node and answers with `text` and `report`."""
    try:
        hosting = library.hosting()
    except comfy_host.STOPS:
        raise
    except BaseException as error:
        why = comfy_host.said(error)
        LOG.warning("%s (%s)", INSTALL, why)
        return _answer(f"{INSTALL}\n({why})", None)
    passing = comfy_host.STOPS
    try:
        host = comfy_host.ComfyHost(hosting, unique_id, dynprompt)
        passing = host.passing
        if spec.task == "read":
            return _read(hosting, host)
        return _sweep(hosting, host, spec, values, widgets)
    except passing:
        raise
    except BaseException as error:
        LOG.exception("the sweep of node %s failed", unique_id)
        what = comfy_host.said(error)
        return _answer(
            f"MemSweep stopped: {what}. The data was passed on; the log has the details.", None
        )


def _sweep(
    hosting: Any,
    host: comfy_host.ComfyHost,
    spec: NodeSpec,
    values: Mapping[str, Any],
    widgets: Mapping[str, Any],
) -> dict[str, Any]:
    parking, warnings = _parking(hosting)
    settings = {
        "level": spec.level_for(widgets),
        "system_wide": bool(widgets.get("system_wide", False)),
        "park": parking,
    }
    inventory: dict[str, Any] = {}
    if hosting.level_of(json.dumps(settings)) not in ("trim", "collect"):
        protected = dict(values)
        targets = None
        if spec.task == "release_model":
            targets = [protected.pop("model", None)]
        inventory = _facts(host, protected, targets)
        inventory.setdefault("notes", []).extend(_none_notes(protected))
        del protected, targets
    else:
        inventory["notes"] = _none_notes(values)
    inventory.setdefault("notes", []).extend(warnings)
    report = hosting.sweep_with(host, settings, inventory)
    if spec.task == "release_model":
        host.after_node(lambda: LOG.info("after Release Model: %s", hosting.sweep().summary))
    LOG.info("node %s: %s", host.node, report.summary)
    return _answer(str(report), report.to_json())


def _parking(hosting: Any) -> tuple[dict[str, Any], list[str]]:
    """What the environment says on parking. A mistake there parks nothing, and is told."""
    try:
        return hosting.park_settings(), []
    except ValueError as error:
        return {"off": True}, [f"nothing was parked: {error}"]


def _facts(
    host: comfy_host.ComfyHost, protected: dict[str, Any], targets: list[Any] | None
) -> dict[str, Any]:
    """The facts of a plan. Without them it holds only steps that need none, which harm nobody."""
    try:
        return host.inventory(protected, targets)
    except host.passing:
        raise
    except BaseException as error:
        LOG.exception("node %s: what is in use could not be found out", host.node)
        note = "no model was unloaded and no cached output dropped, because what is in use "
        why = f"could not be found out: {comfy_host.said(error)}"
        return {
            "notes": [f"{note}{why}"],
            # Whatever needs to know it is left out.
            "executor": {"kind": "unidentified", "reason": f"what is in use {why}"},
        }


def _read(hosting: Any, host: comfy_host.ComfyHost) -> dict[str, Any]:
    reading = hosting.read(host)
    lines = [str(reading), *(f"model {name}" for name in host.loaded_models())]
    return _answer("\n".join(lines), f'{{"schema":1,"reading":{reading.to_json()}}}')


def _none_notes(values: Mapping[str, Any]) -> list[str]:
    return [
        f"input `{name}` is None, so it protects nothing"
        for name, value in values.items()
        if value is None
    ]


def _answer(text: str, report: str | None) -> dict[str, Any]:
    return {"text": text, "report": None if report is None else _packed(report)}


def _packed(report: str) -> str:
    """ComfyUI keeps what a node shows for up to 10 000 prompts: as objects 20 KB a sweep, as JSON
    text 4 KB, so packed 1.5 KB."""
    return base64.b64encode(zlib.compress(report.encode())).decode()
