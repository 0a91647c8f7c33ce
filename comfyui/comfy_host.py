"""The only file that knows ComfyUI's internals.

It describes (pending nodes, links, cache entries, loaded models) and carries out by number what
was decided elsewhere; it decides nothing. Features are detected, versions never compared: what
does not match leaves the executor unidentified, and then nothing is evicted.

Everything here runs on the prompt worker's thread, inside a node.

Long because it is the one file that may know those internals.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

PLAIN = (str, int, float, bool, type(None))


def owner_of(key: str) -> str | None:
    """The module of another pack's class already registered under this key."""
    nodes = sys.modules.get("nodes")
    owner = getattr(nodes, "NODE_CLASS_MAPPINGS", {}).get(key)
    # Our own classes carry the row of the node table they came from.
    return None if owner is None or hasattr(owner, "SPEC") else str(owner.__module__)


def wants_lists(names: Iterable[str]) -> bool:
    """Whether the executor, which is just asking, should hand over whole lists.

    Item by item, an empty list cannot be passed at all, and a short one would come out as long as
    the longest. As whole lists, one blocked item would block all the others. So: lists, unless an
    item is blocked.
    """
    values = sys._getframe(2).f_locals.get("input_data_all")
    if not isinstance(values, dict):
        return False
    data = [values[name] for name in names if isinstance(values.get(name), list)]
    blocked = any(type(item).__name__ == "ExecutionBlocker" for items in data for item in items)
    return not blocked and any(len(items) != 1 for items in data)


class Unidentified(Exception):
    """The executor around us is not of a shape we know."""


class ComfyHost:
    """The host of one sweep in one node."""

    def __init__(self, hosting: Any, unique_id: Any, dynprompt: Any) -> None:
        import comfy.model_management as management

        self.node = str(unique_id)
        self.passing: tuple[type[BaseException], ...] = (
            management.InterruptProcessingException,
        )
        self._hosting = hosting
        self._torch = hosting.TorchHost()
        self._management = management
        self._dynprompt = dynprompt
        self._entries: list[_Entry] = []
        self._models: list[Any] = []
        self._tracker: Any = None

    # What a sweep asks of a host.

    def devices(self) -> str:
        rows = json.loads(self._torch.devices())
        for row in rows:
            paged = [
                # The rest of what is loaded lies in torch's own memory.
                loaded.model.loaded_size()
                - getattr(loaded.model.model, "model_loaded_weight_memory", 0)
                for loaded in self._loaded()
                if str(loaded.device) == row["id"] and _is_dynamic(loaded.model)
            ]
            if paged:
                row["comfy_dynamic"] = int(sum(paged))
        return json.dumps(rows)

    def check_cancelled(self) -> None:
        self._management.throw_exception_if_processing_interrupted()

    def release(self, action: str) -> str:
        request = json.loads(action)
        if request["kind"] == "evict":
            outcome = self._evict(request["entries"])
        elif request["kind"] == "unload":
            outcome = self._unload(request["model"])
        else:
            outcome = self._torch.carry_out(request)
            if request["kind"] == "empty_device_cache" and outcome["kind"] != "done":
                outcome = self._empty_foreign_cache(outcome)
        return json.dumps(outcome)

    # Facts.

    def loaded_models(self) -> list[str]:
        """One line per managed model."""
        return [
            f"{_class_name(loaded)} on {loaded.device}: "
            f"{loaded.model_loaded_memory() / 2**20:.1f} MiB loaded"
            for loaded in self._loaded()
        ]

    def inventory(
        self, protected: Mapping[str, Any], targets: list[Any] | None = None
    ) -> dict[str, Any]:
        """The facts of a plan. `targets` are models to release by name, wherever they sit."""
        storages = self._hosting.Storages()
        self._models = self._loaded()
        roots = list(protected.values())
        slots: list[Any] = []
        run = None
        try:
            run = _Run.find(self.node, self._dynprompt)
            self._entries, executor, slots = run.describe()
        except Unidentified as reason:
            executor = {"kind": "unidentified", "reason": str(reason)}
        if run is not None:
            # A list input calls the node once per item; the executor holds all of them.
            roots += [run.inputs.get(name) for name in protected]
            self._tracker = run.tracker
        reached = self._hosting.reach_many(
            [roots, targets or [], *([value] for value in slots)], self._types(storages)
        )
        chosen = self._target_models(reached[1]) if targets else []
        facts = [self._slot_facts(storages, hits) for hits in reached]
        del reached
        if run is not None:
            run.fill(executor, slots, facts[2:])
        del slots
        connected = {name: facts[0][name] for name in ("storages", "models")}
        return {
            "storages": storages.facts,
            "models": [_model_fact(loaded) for loaded in self._models],
            "targets": chosen,
            "only_targets": targets is not None,
            "connected": connected,
            "executor": executor,
            "mapped_files": _model_files(self._hosting.mapped_files()),
        }

    def after_node(self, callback: Callable[[], Any]) -> None:
        """Calls back once this node has returned: until then its own inputs are in use.

        The executor runs nodes inside one event loop step, so this is at the next suspension, at
        the latest when the prompt ends.
        """
        try:
            asyncio.get_running_loop().call_soon(callback)
        except RuntimeError:
            pass

    def _loaded(self) -> list[Any]:
        return [
            loaded
            for loaded in self._management.current_loaded_models
            if loaded.model is not None
        ]

    def _types(self, storages: Any) -> tuple[type, ...]:
        from comfy.model_patcher import ModelPatcher

        modules = {type(loaded.model.model) for loaded in self._models}
        return (*storages.types(), ModelPatcher, *modules)

    def _slot_facts(self, storages: Any, hits: list[Any]) -> dict[str, list[int]]:
        return {"storages": storages.numbers(hits), "models": self._models_among(hits)}

    def _models_among(self, hits: Iterable[Any]) -> list[int]:
        from comfy.model_patcher import ModelPatcher

        found, bases = set(), set()
        for value in hits:
            found.add(id(value))
            if isinstance(value, ModelPatcher):
                found.add(id(value.model))
                bases.add(getattr(value, "clone_base_uuid", None))
        bases.discard(None)
        return [
            number
            for number, loaded in enumerate(self._models)
            if id(loaded.model) in found
            or id(loaded.model.model) in found
            or getattr(loaded.model, "clone_base_uuid", None) in bases
        ]

    def _target_models(self, hits: list[Any]) -> list[int]:
        """Numbers of the models to release; one that is not loaded gets a number too."""
        from comfy.model_patcher import ModelPatcher

        targets = self._models_among(hits)
        known = {id(self._models[number].model.model) for number in targets}
        for patcher in hits:
            if isinstance(patcher, ModelPatcher) and id(patcher.model) not in known:
                known.add(id(patcher.model))
                targets.append(len(self._models))
                self._models.append(_NotLoaded(patcher))
        return targets

    # Releases.

    def _evict(self, numbers: Iterable[int]) -> dict[str, Any]:
        chosen = [self._entries[number] for number in numbers]
        self._entries = []
        gone = sum(entry.evict() for entry in chosen)
        if not gone:
            return self._hosting.nothing("the entries were gone already")
        return self._hosting.done(f"{gone} entries")

    def _unload(self, number: int) -> dict[str, Any]:
        loaded = self._models[number]
        current = self._management.current_loaded_models
        if loaded.model is None or not any(other is loaded for other in current):
            return self._hosting.nothing("it is not loaded any more")
        self._forget_use(loaded.model)
        # `free_memory` frees what is not kept, so keeping all others names exactly one model.
        keep = [other for other in current if other is not loaded]
        self._management.free_memory(1e30, loaded.device, keep_loaded=keep)
        if any(other is loaded for other in self._management.current_loaded_models):
            return {"kind": "failed", "error": "ComfyUI kept the model loaded"}
        return self._hosting.done()

    def _forget_use(self, patcher: Any) -> None:
        """Newer versions hold paged models until the prompt ends; this one is not needed."""
        for key, tracked in list(getattr(self._tracker, "models", {}).items()):
            if tracked.model is patcher.model:
                del self._tracker.models[key]
                tracked.set_in_use_by_current_prompt(False)

    def _empty_foreign_cache(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Devices that only ComfyUI knows how to empty (NPU, MLU)."""
        device = self._management.get_torch_device()
        if device.type in ("cpu", "cuda", "xpu", "mps"):
            return outcome
        self._management.soft_empty_cache()
        return self._hosting.done(str(device))


class _NotLoaded:
    """A model to release that sits in RAM only."""

    def __init__(self, patcher: Any) -> None:
        self.model = patcher
        self.device = "no device"

    def model_loaded_memory(self) -> None:
        return None


class _Entry:
    """One cache entry and where it sits."""

    def __init__(self, cache: Any, key: Any, entry: Any) -> None:
        self.cache, self.key, self.entry = cache, key, entry
        self.nodes: list[str] = []
        self.made_now = False

    @property
    def outputs(self) -> Any:
        # Old versions cache the bare list of outputs.
        return self.entry if isinstance(self.entry, list) else getattr(self.entry, "outputs", None)

    def evict(self) -> bool:
        """The cache's own eviction: the entry first, then the side tables that index by it."""
        if self.cache.cache.get(self.key) is not self.entry:
            return False
        del self.cache.cache[self.key]
        for table in ("used_generation", "timestamps", "children"):
            getattr(self.cache, table, {}).pop(self.key, None)
        # Entries found at the start of this prompt are also held by the executor until it ends.
        # Emptying the list frees them; a provider may still be storing the same list, though.
        found_at_start = self.nodes and not self.made_now
        if found_at_start and hasattr(self.entry, "outputs") and not _has_providers():
            if isinstance(self.entry.outputs, list):
                self.entry.outputs.clear()
        return True

    def has_ui(self) -> bool:
        shown = getattr(self.entry, "ui", None)
        output = shown.get("output") if isinstance(shown, Mapping) else None
        # Our own pass-through nodes show a report, which nobody needs again.
        return shown is not None and not (isinstance(output, Mapping) and "memsweep" in output)


class _Run:
    """The executor's state around our node, as its frame holds it."""

    def __init__(self, node: str, values: Mapping[str, Any]) -> None:
        self.node = node
        self.list = values["execution_list"]
        self.prompt = values["dynprompt"]
        self.inputs = values.get("input_data_all") or {}
        self.executed = values.get("executed") or ()
        self.tracker = getattr(getattr(self.list, "output_link_callback", None), "__self__", None)

    @classmethod
    def find(cls, node: str, dynprompt: Any) -> _Run:
        """Raises `Unidentified` with what did not match."""
        if dynprompt is None:
            raise Unidentified("it handed over no prompt")
        for frame in _execute_frames():
            # One look: before Python 3.13 each look stores a snapshot on that frame.
            values = frame.f_locals
            if {"execution_list", "dynprompt"} <= values.keys():
                run = cls(node, values)
                run._verify(dynprompt)
                return run
        raise Unidentified("no frame of `execution.execute` is on the stack")

    def _verify(self, dynprompt: Any) -> None:
        if getattr(self.list, "dynprompt", None) is not dynprompt:
            raise Unidentified("its list belongs to another prompt")
        if self.node not in getattr(self.list, "pendingNodes", ()):
            raise Unidentified("this node is not pending in it")
        for cache in _all_caches(getattr(self.list, "output_cache", None)):
            keys = getattr(cache, "cache_key_set", None)
            if not isinstance(cache.cache, dict) or not hasattr(keys, "get_data_key"):
                raise Unidentified(f"its output cache is a {type(cache).__name__}")

    def describe(self) -> tuple[list[_Entry], dict[str, Any], list[Any]]:
        """Entries, executor facts without slots, and the slot values in entry order."""
        root = self.list.output_cache
        if hasattr(root, "cache"):
            entries = [
                _Entry(cache, key, entry)
                for cache in _all_caches(root)
                for key, entry in list(cache.cache.items())
            ]
            numbers = {(id(e.cache), e.key): number for number, e in enumerate(entries)}
        elif type(root).__name__ == "NullCache":
            # Nothing to evict, but what pending nodes hold says which models they need.
            entries, numbers = self._held()
        else:
            raise Unidentified(f"its output cache is a {type(root).__name__}")
        nodes = list(self._nodes(numbers))
        for node in nodes:
            if node["entry"] is not None:
                entry = entries[node["entry"]]
                entry.nodes.append(f"{node['id']} {node['class']}")
                entry.made_now = entry.made_now or node["id"] in self.executed
        facts = {
            "kind": "identified",
            "running": self.node,
            "keeps_nothing": not hasattr(root, "cache"),
            "nodes": nodes,
            "entries": [self._entry_fact(entry) for entry in entries],
        }
        slots = [value for entry in entries if _readable(entry) for value in entry.outputs]
        return entries, facts, slots

    def fill(self, facts: dict[str, Any], slots: list[Any], reached: list[Any]) -> None:
        """Puts what each slot reaches into the entry facts."""
        rows = iter(zip(slots, reached, strict=True))
        for fact in facts.get("entries", ()):
            if fact["slots"] is not None:
                fact["slots"] = [
                    {**found, "plain": _plain(value)}
                    for value, found in (next(rows) for _ in range(fact["slots"]))
                ]

    def _held(self) -> tuple[list[_Entry], dict[Any, int]]:
        """Results that the executor itself keeps for pending nodes, numbered by source node."""
        sources = {
            source: entry
            for of_consumer in getattr(self.list, "execution_cache", {}).values()
            for source, entry in of_consumer.items()
            if entry is not None
        }
        entries = [_Entry(None, source, entry) for source, entry in sources.items()]
        return entries, {source: number for number, source in enumerate(sources)}

    def _entry_fact(self, entry: _Entry) -> dict[str, Any]:
        consumers = [
            consumer
            for consumer, sources in getattr(self.list, "execution_cache", {}).items()
            if any(value is entry.entry for value in sources.values())
        ]
        return {
            "name": ", ".join(entry.nodes) or "an earlier workflow's node",
            "slots": len(entry.outputs) if _readable(entry) else None,
            "has_ui": entry.has_ui(),
            "held_for": consumers,
        }

    def _nodes(self, numbers: Mapping[Any, int]) -> Iterator[dict[str, Any]]:
        import nodes as registry

        for node_id in sorted(self.prompt.all_node_ids()):
            node = self.prompt.get_node(node_id)
            cls = registry.NODE_CLASS_MAPPINGS.get(node.get("class_type"))
            inputs = node.get("inputs")
            unread = cls is None or not isinstance(inputs, dict)
            pending = node_id in self.list.pendingNodes
            yield {
                "id": node_id,
                "class": str(node.get("class_type")),
                "pending": pending,
                "output": bool(getattr(cls, "OUTPUT_NODE", False)),
                "opaque": unread or (pending and _reads_prompt(cls)),
                "unrepeatable": any(
                    getattr(cls, mark, False) is True for mark in ("API_NODE", "NOT_IDEMPOTENT")
                ),
                "parent": self.prompt.get_parent_node_id(node_id),
                "links": [] if unread else list(_links(inputs)),
                "entry": self._entry_number(node_id, numbers),
            }

    def _entry_number(self, node_id: str, numbers: Mapping[Any, int]) -> int | None:
        cache = self.list.output_cache
        if not hasattr(cache, "cache"):
            return numbers.get(node_id)
        if hasattr(cache, "_get_cache_for"):
            cache = cache._get_cache_for(node_id)
        if cache is None:
            return None
        key = cache.cache_key_set.get_data_key(node_id)
        return None if key is None else numbers.get((id(cache), key))


def _execute_frames() -> Iterator[FrameType]:
    code = getattr(getattr(sys.modules.get("execution"), "execute", None), "__code__", None)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # Packs that wrap `execute` leave the original's name and file to go by.
        name, file = frame.f_code.co_name, os.path.basename(frame.f_code.co_filename)
        if frame.f_code is code or (name, file) == ("execute", "execution.py"):
            yield frame
        frame = frame.f_back


def _all_caches(cache: Any) -> Iterator[Any]:
    if hasattr(cache, "cache"):
        yield cache
        for inner in list(getattr(cache, "subcaches", {}).values()):
            yield from _all_caches(inner)


def _links(inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for value in inputs.values():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            if isinstance(value[1], (int, float)) and value[1] >= 0:
                yield {"source": value[0], "slot": int(value[1])}


def _reads_prompt(cls: type) -> bool:
    """Whether a node gets the whole prompt: the end node of a loop clones nodes of it, and its
    clones link to outputs that the end node itself does not."""
    if hasattr(cls, "SPEC"):
        return False
    try:
        hidden = cls.INPUT_TYPES().get("hidden", {}).values()
    except Exception:
        return True
    # Nodes of the newer interface write the kind as a tuple.
    return any("DYNPROMPT" in (kind if isinstance(kind, tuple) else (kind,)) for kind in hidden)


def _readable(entry: _Entry) -> bool:
    return isinstance(entry.outputs, list)


def _plain(slot: Any) -> bool:
    return isinstance(slot, (list, tuple)) and all(type(value) in PLAIN for value in slot)


def _is_dynamic(patcher: Any) -> bool:
    return bool(getattr(patcher, "is_dynamic", bool)())


def _class_name(loaded: Any) -> str:
    return type(loaded.model.model).__name__


def _model_fact(loaded: Any) -> dict[str, Any]:
    size = loaded.model_loaded_memory()
    return {
        "name": _class_name(loaded),
        "device": str(loaded.device),
        "bytes": None if size is None else int(size),
        "loaded": not isinstance(loaded, _NotLoaded),
    }


def _model_files(paths: Iterable[str]) -> list[str]:
    """Of the mapped files, those in ComfyUI's model folders."""
    import folder_paths

    roots = tuple(
        os.path.realpath(folder) + os.sep
        for folders, _ in folder_paths.folder_names_and_paths.values()
        for folder in folders
    )
    # The folder of the nodes themselves is registered too; its files are code.
    code = tuple(os.path.realpath(f) + os.sep for f in folder_paths.get_folder_paths("custom_nodes"))
    return sorted(path for path in paths if path.startswith(roots) and not path.startswith(code))


def _has_providers() -> bool:
    try:
        from comfy_execution.cache_provider import _has_cache_providers
    except ImportError:
        return False
    return bool(_has_cache_providers())
