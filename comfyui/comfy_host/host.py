"""The host of one sweep: describes ComfyUI's models and outputs, and carries out by number."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import leftovers, others
from .entries import Entry, Unidentified
from .executor import Run

# What ends the program or this thread. Anything else that is no `Exception`, such as a panic of a
# native module, would end ComfyUI's worker for good if it were let through.
STOPS: tuple[type[BaseException], ...] = (
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
)


def said(error: BaseException) -> str:
    """Kind and message of an error; one that cannot even tell its message does no harm."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def owner_of(key: str) -> str | None:
    """The module of another pack's class already registered under this key."""
    nodes = sys.modules.get("nodes")
    owner = getattr(nodes, "NODE_CLASS_MAPPINGS", {}).get(key)
    # Our own classes carry the row of the node table they came from.
    return None if owner is None or hasattr(owner, "SPEC") else str(owner.__module__)


class ComfyHost:
    """The host of one sweep in one node."""

    def __init__(self, hosting: Any, unique_id: Any, dynprompt: Any) -> None:
        import comfy.model_management as management

        self.node = str(unique_id)
        self.passing = (management.InterruptProcessingException, *STOPS)
        self._hosting = hosting
        self._torch = hosting.TorchHost()
        self._management = management
        self._dynprompt = dynprompt
        self._entries: list[Entry] = []
        self._models: list[Any] = []
        self._tracker: Any = None
        self._storages: Any = None

    # What a sweep asks of a host.

    def devices(self) -> str:
        rows = json.loads(self._torch.devices())
        for row in rows:
            row["comfy_dynamic"] = self._paged(row["id"])
        return json.dumps(rows)

    def _paged(self, device: str) -> int | None:
        """Bytes of models on a device that ComfyUI pages by itself. `None` where it pages nothing,
        and where a model does not tell; 0 when it does page and holds none there now."""
        models = [loaded for loaded in self._loaded() if _is_dynamic(loaded.model)]
        if not models and not _pages_models():
            return None
        try:
            return sum(
                # The rest of what is loaded lies in torch's own memory.
                int(loaded.model.loaded_size())
                - int(getattr(loaded.model.model, "model_loaded_weight_memory", 0))
                for loaded in models
                if str(loaded.device) == device
            )
        except self.passing:
            raise
        except Exception:
            return None

    def check_cancelled(self) -> None:
        self._management.throw_exception_if_processing_interrupted()

    def release(self, action: str) -> str:
        try:
            return json.dumps(self._carry_out(json.loads(action)))
        except self.passing:
            raise
        except BaseException as error:
            return json.dumps(_failed(said(error)))

    def _carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["kind"] == "evict":
            return self._evict(request["entries"])
        if request["kind"] == "unload":
            return self._unload(request["model"])
        if request["kind"] == "destroy":
            return leftovers.destroy(self._hosting, self._places(request["keep"]), self.node)
        outcome: dict[str, Any] = self._torch.carry_out(request)
        if request["kind"] == "empty_device_cache" and outcome["kind"] != "done":
            outcome = self._empty_foreign_cache(outcome)
        return outcome

    def parking(self, keep: list[int]) -> Any:
        """What the park step asks for."""
        try:
            return self._hosting.Parking(
                self._storages, keep, leftovers.spill_folder(), leftovers.Progress(self.passing)
            )
        except self.passing:
            raise
        except BaseException as error:
            # The native module lets all but an `Exception` through.
            raise RuntimeError(said(error)) from None

    def _places(self, numbers: list[int]) -> set[Any]:
        return set() if self._storages is None else self._storages.places(numbers)

    # Facts.

    def loaded_models(self) -> list[dict[str, Any]]:
        """The facts of each managed model."""
        return [_model_fact(loaded) for loaded in self._loaded()]

    def inventory(
        self, protected: Mapping[str, Any], targets: list[Any] | None = None
    ) -> dict[str, Any]:
        """The facts of a plan. `targets` are models to release by name, wherever they sit."""
        storages = self._storages = self._hosting.Storages()
        self._models = self._loaded()
        roots = list(protected.values())
        slots: list[Any] = []
        run = None
        try:
            run = Run.find(self.node, self._dynprompt, self._hosting.variables)
            self._entries, executor, slots = run.describe()
        except Unidentified as reason:
            executor = {"kind": "unidentified", "reason": str(reason)}
        except self.passing:
            # In older versions a cancel is an `Exception` too.
            raise
        except Exception as error:
            executor = {"kind": "unidentified", "reason": f"it cannot be read: {said(error)}"}
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
            "models": self._model_facts(),
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

    def _model_facts(self) -> list[dict[str, Any]]:
        users = others.users(self._hosting, [loaded.model for loaded in self._models])
        return [
            {**_model_fact(loaded), "in_use_by": user}
            for loaded, user in zip(self._models, users, strict=True)
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
        gone, refused = 0, []
        for entry in chosen:
            try:
                gone += entry.evict()
            except self.passing:
                raise
            except BaseException as error:
                refused.append(said(error))
        if not gone:
            if refused:
                return _failed(refused[0])
            return self._hosting.nothing("the entries were gone already")
        stayed = f"; {len(refused)} could not be dropped: {refused[0]}" if refused else ""
        return self._hosting.done(f"{gone} entries{stayed}")

    def _unload(self, number: int) -> dict[str, Any]:
        loaded = self._models[number]
        patcher = loaded.model
        if patcher is None or not self._lists(loaded):
            return self._hosting.nothing("it is not loaded any more")
        (user,) = others.users(self._hosting, [patcher])
        if user is not None:
            return self._hosting.nothing(f"{user} began to use it")
        # `free_memory` frees what is not kept, so keeping all others names exactly one model.
        keep = [other for other in self._management.current_loaded_models if other is not loaded]
        trouble = None
        try:
            self._management.free_memory(1e30, loaded.device, keep_loaded=keep)
            if self._lists(loaded):
                return _failed("ComfyUI kept the model loaded")
            self._forget_use(patcher)
        except BaseException as error:
            self._settle(loaded, patcher)
            if isinstance(error, self.passing) or self._lists(loaded):
                raise
            trouble = f"it left, and then: {said(error)}"
        return self._hosting.done(trouble)

    def _lists(self, loaded: Any) -> bool:
        # By identity: ComfyUI's own comparison is by patcher.
        return any(other is loaded for other in self._management.current_loaded_models)

    def _settle(self, loaded: Any, patcher: Any) -> None:
        """An unload broke off: the model must be off the list, or one that can be used."""
        models = self._management.current_loaded_models
        if loaded.real_model is None:
            # Unloaded but still listed, which ComfyUI's next look at the list would not survive.
            models[:] = [other for other in models if other is not loaded]
        else:
            # Its patches may be out already. As patches of another kind they are put in anew.
            patcher.model.current_weight_patches_uuid = uuid.uuid4()

    def _forget_use(self, patcher: Any) -> None:
        """Newer versions hold paged models until the prompt ends; this one is not needed."""
        for key, tracked in list(getattr(self._tracker, "models", {}).items()):
            if tracked.model is patcher.model:
                tracked.set_in_use_by_current_prompt(False)
                del self._tracker.models[key]

    def _empty_foreign_cache(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Devices that only ComfyUI knows how to empty (NPU, MLU)."""
        device = self._management.get_torch_device()
        if device.type in ("cpu", "cuda", "xpu", "mps"):
            return outcome
        self._management.soft_empty_cache()
        return self._hosting.done(str(device))


def _failed(error: str) -> dict[str, Any]:
    return {"kind": "failed", "error": error}


class _NotLoaded:
    """A model to release that sits in RAM only."""

    def __init__(self, patcher: Any) -> None:
        self.model = patcher
        self.device = "no device"

    def model_loaded_memory(self) -> None:
        return None


def _is_dynamic(patcher: Any) -> bool:
    return bool(getattr(patcher, "is_dynamic", bool)())


def _pages_models() -> bool:
    """Whether this ComfyUI pages the models that it loads from now on."""
    memory = sys.modules.get("comfy.memory_management")
    return bool(getattr(memory, "aimdo_enabled", False))


def _class_name(loaded: Any) -> str:
    return type(loaded.model.model).__name__


def _model_fact(loaded: Any) -> dict[str, Any]:
    size = loaded.model_loaded_memory()
    return {
        "name": _class_name(loaded),
        "device": str(loaded.device),
        "bytes": None if size is None else int(size),
        "loaded": not isinstance(loaded, _NotLoaded),
        "offload_device": _offload_device(loaded.model),
    }


def _offload_device(patcher: Any) -> str | None:
    device = getattr(patcher, "offload_device", None)
    # The pages of a paged model leave the device whatever else is said of it.
    return None if device is None or _is_dynamic(patcher) else str(device)


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
