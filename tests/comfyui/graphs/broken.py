"""MemSweep, broken on purpose: what the random workflows must find.

Each fault is planted where the pack hands facts to the core or takes its answer, so that the core
decides as if it had the fault itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from harness.executor import pack

from graphs.watch import Watch, own_frames


def _facts_changed(change: Callable[[dict], None]) -> Any:
    host = pack("service").comfy_host.ComfyHost
    inventory = host.inventory

    def changed(self, *arguments):
        facts = inventory(self, *arguments)
        if facts["executor"]["kind"] == "identified":
            change(facts["executor"])
        return facts

    return mock.patch.object(host, "inventory", changed)


def _forget_pending(executor: dict) -> None:
    for node in executor["nodes"]:
        node["pending"] = False
    for entry in executor["entries"]:
        entry["held_for"] = []


def _forget_outputs(executor: dict) -> None:
    for node in executor["nodes"]:
        node["output"] = False
    for entry in executor["entries"]:
        entry["has_ui"] = False


def _forget_results(executor: dict) -> None:
    expanded = {node["id"] for node in executor["nodes"] if node["expanded"]}
    for node in executor["nodes"]:
        if node["id"] in expanded:
            node["expanded"] = []
    for entry in executor["entries"]:
        entry["held_for"] = [node for node in entry["held_for"] if node not in expanded]


@contextlib.contextmanager
def results_forgotten() -> Iterator[None]:
    """What a node that became others waits for counts for nothing."""
    with _facts_changed(_forget_results):
        yield


@contextlib.contextmanager
def live_set_ignored() -> Iterator[None]:
    """What nodes still to run need counts for nothing."""
    with _facts_changed(_forget_pending):
        yield


@contextlib.contextmanager
def protection_by_ids_only() -> Iterator[None]:
    """A model counts as connected only when its very object is, not a clone that shares it."""
    models = pack("comfy_host.models").Models

    def by_id(self, hits):
        found = {id(value) for value in hits}
        return [n for n, loaded in enumerate(self.numbered) if id(loaded.model) in found]

    with mock.patch.object(models, "among", by_id):
        yield


@contextlib.contextmanager
def output_node_evicted() -> Iterator[None]:
    """What output nodes made, and what feeds them, goes like anything else."""
    with _facts_changed(_forget_outputs):
        yield


@contextlib.contextmanager
def hidden_references_ignored() -> Iterator[None]:
    """What only a running thread or C++ holds may be chosen."""
    from memsweep import _memsweep as heap

    def unchecked(connected):
        return heap.candidates(connected, (torch.Tensor,), own_frames(), check_pinned=False).hits

    with mock.patch.object(Watch, "candidates", staticmethod(unchecked)):
        yield


@contextlib.contextmanager
def other_executors_ignored() -> Iterator[None]:
    """A model is in use by nobody but the prompt that sweeps."""

    def nobody(hosting, patchers):
        return [None for _ in patchers]

    with mock.patch.object(pack("comfy_host.others"), "users", nobody):
        yield


PLANTED = {
    "other executors ignored": (other_executors_ignored, "another executor|the other executor"),
    "live set ignored": (live_set_ignored, "still need"),
    "results of an expansion forgotten": (results_forgotten, "still need"),
    "protection by ids only": (protection_by_ids_only, "still needed was unloaded"),
    "an output node evicted": (output_node_evicted, "output nodes wrote|instead of"),
    "hidden references ignored": (hidden_references_ignored, "in hidden use"),
}
