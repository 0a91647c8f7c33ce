"""Watches every sweep of a case from outside, and holds it to what was promised.

Before and after each run of a MemSweep node it looks at ComfyUI's caches and its list of loaded
models, and compares. What must hold is said here in plain Python, without MemSweep's walk or core:

- what the nodes still to run are linked to is still in the cache, whole (P2);
- every entry is either as it was, or was dropped as planned and is gone from all tables;
- what was dropped is gone from memory, unless something that may hold it does;
- no model that is connected, or that a pending link leads to, was unloaded (P2);
- no model that another executor is in the middle of sampling with was unloaded;
- what a park could choose from holds nothing that is connected or in hidden use.
"""

from __future__ import annotations

import json
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from harness import toys
from harness.executor import executor_locals, pack
from harness.reports import unpacked

from graphs import naive, zoo_state
from graphs.beside import loaded_half_way
from graphs.outcome import CounterExample, Tally


@dataclass
class _Entry:
    """How an entry looked. Holds nothing of it, so that a sweep can free it."""

    cache: Any
    key: Any
    identity: int
    items: list[int]
    digest: list[str]


class Idle:
    """While entered, our nodes pass their data on and sweep nothing."""

    def __enter__(self) -> None:
        self.service = pack("service")
        self._run = self.service.run
        self.service.run = lambda *_: {"text": "", "report": None}

    def __exit__(self, *_exception: Any) -> None:
        self.service.run = self._run


class Watch:
    """Wraps the pack's `service.run` and `ComfyHost.release` for one executor."""

    def __init__(self, runner: Any, tally: Tally, look_for_hidden: bool):
        self.runner, self.tally = runner, tally
        self.look_for_hidden = look_for_hidden
        self.service = pack("service")
        self.host_class = self.service.comfy_host.ComfyHost
        self.evicted_keys: set = set()
        self._planned: list[tuple] = []
        self._unloaded = 0

    def begin(self) -> None:
        self._run, self._release = self.service.run, self.host_class.release
        self.service.run = self._watched_run
        watch, release = self, self._release

        def watched_release(host, action):
            request = json.loads(action)
            chosen = []
            if request["kind"] == "evict":
                chosen = [host.facts.entries[number] for number in request["entries"]]
                chosen = [(e.cache, e.key, _tensors([e.outputs])) for e in chosen]
            answer = release(host, action)
            if chosen and json.loads(answer)["kind"] == "done":
                watch._planned += chosen
            watch._unloaded += request["kind"] == "unload" and json.loads(answer)["kind"] == "done"
            return answer

        self.host_class.release = watched_release

    def end(self) -> None:
        self.service.run, self.host_class.release = self._run, self._release

    def _watched_run(self, spec, values, widgets, unique_id, metadata, dynprompt):
        running = executor_locals()
        execution = running["execution_list"]
        before = self._entries()
        linked = self._linked(running, str(unique_id))
        # The model to release is not protected by being the input that names it.
        named = ("model",) if spec.task == "release_model" else ()
        needed = [value for name, value in values.items() if name not in named]
        models = _models([*needed, *self._linked_values(linked), *held_for(execution, unique_id)])
        del needed
        sampled = loaded_half_way()
        litter = toys.STORAGES.get("litter")
        littered = litter is not None and litter() is not None
        self._planned, self._unloaded = [], 0

        answer = self._run(spec, values, widgets, unique_id, metadata, dynprompt)

        self._check_entries(before, linked)
        self._check_models(models)
        if loaded_half_way() != sampled:
            raise CounterExample("a model that another executor is sampling with was unloaded")
        gone = self._check_gone(running, values)
        del running
        collected = littered and litter() is None
        self._count(spec, answer, gone, collected)
        if self.look_for_hidden and zoo_state.HIDDEN:
            self._check_candidates(list(values.values()))
        return answer

    # What is there.

    def _caches(self):
        waiting = [self.runner.executor.caches.outputs]
        while waiting:
            cache = waiting.pop()
            if isinstance(getattr(cache, "cache", None), dict):
                yield cache
            waiting += getattr(cache, "subcaches", {}).values()

    def _entries(self) -> dict[tuple[int, Any], _Entry]:
        found = {}
        for cache in self._caches():
            for key, entry in cache.cache.items():
                outputs = entry if isinstance(entry, list) else entry.outputs
                found[id(cache), key] = _Entry(
                    cache, key, id(entry), [id(item) for item in outputs], _digests(outputs)
                )
        return found

    def _linked(self, values: dict, running: str) -> dict[tuple[int, Any], list]:
        """Places of the cached outputs that nodes still to run are linked to: node and slot. One that
        became other nodes has read its inputs, and waits for results only."""
        execution, expanded = values["execution_list"], values["pending_subgraph_results"]
        found = {}
        for pending in execution.pendingNodes:
            if pending == running:
                continue
            links = execution.dynprompt.get_node(pending)["inputs"].values()
            if pending in expanded:
                links = [link for is_graph, results in expanded[pending] if is_graph for link in results]
            for link in links:
                if not (isinstance(link, list) and len(link) == 2 and isinstance(link[0], str)):
                    continue
                cache, key = place(self.runner, link[0])
                if key is not None and key in cache.cache:
                    found.setdefault((id(cache), key), []).append((pending, link[1]))
        return found

    def _linked_values(self, linked: dict) -> list:
        found = []
        for cache in self._caches():
            for key, entry in cache.cache.items():
                outputs = entry if isinstance(entry, list) else entry.outputs
                found += [outputs[slot] for _, slot in linked.get((id(cache), key), ())]
        return found

    # What must hold.

    def _check_entries(self, before: dict, linked: dict) -> None:
        after = self._entries()
        planned = {(id(cache), key) for cache, key, _ in self._planned}
        for where, was in before.items():
            now = after.get(where)
            if where in linked and (where in planned or now is None):
                raise CounterExample(f"node {linked[where][0][0]} still needs an output that went")
            if where in planned:
                self.evicted_keys.add(was.key)
                self._check_tables(was)
                continue
            if now is None or now.identity != was.identity:
                raise CounterExample("an entry went that no plan named")
            if now.items != was.items or now.digest != was.digest:
                raise CounterExample("an entry was kept, and its content changed")
        if after.keys() - before.keys():
            raise CounterExample("a sweep put something into a cache")

    def _check_tables(self, was: _Entry) -> None:
        tables = ("cache", "used_generation", "timestamps", "children")
        left = [name for name in tables if was.key in getattr(was.cache, name, {})]
        if left:
            raise CounterExample(f"a dropped entry is still known to {left}")

    def _check_models(self, needed: list[int]) -> None:
        import comfy.model_management as management

        loaded = [id(m.model.model) for m in management.current_loaded_models if m.model]
        if not set(needed).issubset(loaded):
            raise CounterExample("a model that is connected or still needed was unloaded")

    def _check_gone(self, running: dict, values: dict) -> int:
        """Dropped tensors are freed, or held by something that may hold them."""
        # What the executor holds for the node that runs, and for nodes that wait.
        waiting = ("input_data_all", "pending_subgraph_results", "pending_async_nodes")
        dropped = [ref for *_, refs in self._planned for ref in refs]
        alive = [tensor for tensor in (ref() for ref in dropped) if tensor is not None]
        if alive:
            roots = [
                *self._caches(), *zoo_state.holders(), values,
                *(running.get(name) for name in waiting),
                getattr(running["execution_list"], "execution_cache", {}),
                self.runner.executor.caches.objects,
            ]
            reached = naive.closure(roots, leave_out=[alive, dropped])
            bases = {id(item._base) for item in _whole(reached.values())}
            for tensor in alive:
                if id(tensor) not in reached and id(tensor) not in bases:
                    raise CounterExample("a dropped tensor is alive, and nothing known holds it")
        return len(dropped) - len(alive)

    def _check_candidates(self, connected: list) -> None:
        """What a park could choose from: queried as a park would, and checked."""
        found = self.candidates(connected)
        self.tally.counts["looks for hidden use"] += 1
        chosen = _storages(found)
        if chosen & _storages(ref() for ref in zoo_state.HIDDEN):
            raise CounterExample("a tensor in hidden use could have been chosen")
        if chosen & _storages(naive.closure(connected).values()):
            raise CounterExample("a connected tensor could have been chosen")

    @staticmethod
    def candidates(connected: list) -> list:
        from memsweep import _memsweep as heap

        return heap.candidates(connected, (torch.Tensor,), own_frames()).hits

    def _count(self, spec: Any, answer: dict, gone: int, collected: bool) -> None:
        counts = self.tally.counts
        if spec.task == "read":
            counts["readings"] += 1
            return
        if answer["report"] is None:
            raise CounterExample(f"the sweep stopped: {answer['text']}")
        counts["sweeps"] += 1
        counts["entries evicted"] += len(self._planned)
        counts["models unloaded"] += self._unloaded
        counts["tensors freed"] += gone
        moved = destroyed = 0
        for row in unpacked(answer)["rows"]:
            if row["outcome"]["kind"] == "parked":
                moved += row["outcome"]["regions"]
            if row["outcome"]["kind"] == "destroyed":
                destroyed += sum(owner["tensors"] for owner in row["outcome"]["owners"])
            if row["outcome"]["kind"] in ("failed", "cancelled"):
                raise CounterExample(f"a step failed: {row}")
        counts["blocks parked"] += moved
        counts["tensors destroyed"] += destroyed
        references = gone or self._unloaded or destroyed
        counts["sweeps that released something"] += bool(references or moved or collected)
        counts["sweeps that released more than cycles"] += bool(references or moved)


def held_for(execution: Any, running: Any) -> list:
    """What newer executors hold for nodes that wait; without a cache nothing else does."""
    found = []
    for pending, sources in getattr(execution, "execution_cache", {}).items():
        if pending == str(running):
            continue
        for link in execution.dynprompt.get_node(pending)["inputs"].values():
            entry = sources.get(link[0]) if isinstance(link, list) and len(link) == 2 else None
            if entry is not None:
                found.append(entry.outputs[link[1]])
    return found


def own_frames() -> list:
    frame, found = sys._getframe(1), []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def place(runner: Any, node: str) -> tuple[Any, Any]:
    """The cache and the key of a node's entry; the key is None where there is none."""
    cache = runner.executor.caches.outputs
    if hasattr(cache, "_get_cache_for"):
        cache = cache._get_cache_for(node)
    if cache is None or not hasattr(cache, "cache"):
        return cache, None
    return cache, cache.cache_key_set.get_data_key(node)


def _tensors(roots: list) -> list[weakref.ref]:
    found = naive.closure(roots).values()
    return [weakref.ref(item) for item in found if isinstance(item, torch.Tensor)]


def _storages(items: Any) -> set[int]:
    """The memory behind the tensors among these."""
    return {tensor.untyped_storage()._cdata for tensor in _whole(items)}


def _whole(items: Any) -> list[torch.Tensor]:
    """The tensors among these that still have memory."""
    tensors = (item for item in items if isinstance(item, torch.Tensor))
    return [tensor for tensor in tensors if not zoo_state.is_destroyed(tensor)]


def _models(roots: list) -> list[int]:
    """Loaded modules that these objects reach, by id."""
    import comfy.model_management as management

    loaded = [m.model.model for m in management.current_loaded_models if m.model is not None]
    if not loaded:
        return []
    reached = naive.closure(roots)
    return [id(module) for module in loaded if id(module) in reached]


def _digests(outputs: list) -> list[str]:
    from graphs.zoo_flow import deep_digest

    return [
        deep_digest(item) for slot in outputs if isinstance(slot, list)
        for item in slot if isinstance(item, (torch.Tensor, dict, list))
    ]
