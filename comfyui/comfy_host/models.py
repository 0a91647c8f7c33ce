"""The models that ComfyUI manages: their facts, their numbers in one plan, and unloading one."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from . import files, others
from .assumptions import Off, is_off
from .errors import failed, said


class Models:
    """The models of one plan, by the numbers that it knows them by."""

    def __init__(self, hosting: Any, passing: tuple[type[BaseException], ...]) -> None:
        import comfy.model_management as management

        self.numbered: list[Any] = []
        # Newer versions count there which models the prompt under way uses.
        self.tracker: Any = None
        self._hosting = hosting
        self._passing = passing
        self._management = management

    # Facts.

    def loaded(self) -> list[Any]:
        """What is on ComfyUI's list now."""
        if is_off(Off.UNLOADING) is not None:
            return []
        return [
            loaded
            for loaded in self._management.current_loaded_models
            if loaded.model is not None
        ]

    def number(self) -> None:
        """Numbers what is loaded now."""
        self.numbered = self.loaded()

    def facts(self, of_loaders: Mapping[int, list[str]]) -> list[dict[str, Any]]:
        """The facts of each numbered model; `of_loaders` are files known only from a workflow."""
        facts = [_fact(loaded) for loaded in self.numbered]
        for number, found in of_loaders.items():
            facts[number]["files"] = found
        return facts

    def users(self) -> list[str | None]:
        """Who else is using each of them, in words."""
        return others.users(self._hosting, [loaded.model for loaded in self.numbered])

    def without_record(self) -> dict[int, str | None]:
        """The numbered models that do not know their file themselves, with the part that they are."""
        return {
            number: files.part(loaded.model)
            for number, loaded in enumerate(self.numbered)
            if not files.recorded(loaded.model)
        }

    def types(self) -> tuple[type, ...]:
        """Types of objects by which `among` recognises a model."""
        from comfy.model_patcher import ModelPatcher

        return (ModelPatcher, *{type(loaded.model.model) for loaded in self.numbered})

    def among(self, hits: Iterable[Any]) -> list[int]:
        """Numbers of the models that these objects are, share or were cloned from."""
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
            for number, loaded in enumerate(self.numbered)
            if id(loaded.model) in found
            or id(loaded.model.model) in found
            or getattr(loaded.model, "clone_base_uuid", None) in bases
        ]

    def targets(self, hits: Iterable[Any]) -> list[int]:
        """Numbers of the models to release; one that is not loaded gets a number too."""
        from comfy.model_patcher import ModelPatcher

        targets = self.among(hits)
        known = {id(self.numbered[number].model.model) for number in targets}
        for patcher in hits:
            if isinstance(patcher, ModelPatcher) and id(patcher.model) not in known:
                known.add(id(patcher.model))
                targets.append(len(self.numbered))
                self.numbered.append(_NotLoaded(patcher))
        return targets

    def paged(self, device: str) -> int | None:
        """Bytes of models on a device that ComfyUI pages by itself. `None` where it pages nothing, and where
        a model does not say; 0 when it does page and holds none there now."""
        models = [loaded for loaded in self.loaded() if _is_dynamic(loaded.model)]
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
        except self._passing:
            raise
        except Exception:
            return None

    def in_torch(self, device: str) -> int | None:
        """Bytes of loaded models on a device in torch's own memory. `None` where one does not say."""
        if is_off(Off.UNLOADING) is not None:
            return None
        try:
            # Two patchers on the list may share one model.
            models = {
                id(loaded.model.model): loaded.model.model
                for loaded in self.loaded()
                if str(loaded.device) == device
            }
            sizes = [int(model.model_loaded_weight_memory) for model in models.values()]
        except self._passing:
            raise
        except Exception:
            return None
        return sum(sizes) if all(size >= 0 for size in sizes) else None

    # Unloading.

    def unload(self, number: int) -> dict[str, Any]:
        """Takes one numbered model off its device, and answers with the outcome."""
        loaded = self.numbered[number]
        patcher = loaded.model
        if patcher is None or not self._lists(loaded):
            return dict(self._hosting.nothing("not_loaded"))
        (user,) = others.users(self._hosting, [patcher])
        if user is not None:
            return dict(self._hosting.nothing("begun_to_use", by=user))
        # `free_memory` frees what is not kept, so keeping all others names exactly one model.
        keep = [other for other in self._management.current_loaded_models if other is not loaded]
        trouble = None
        try:
            self._management.free_memory(1e30, loaded.device, keep_loaded=keep)
            if self._lists(loaded):
                return failed("ComfyUI kept the model loaded")
            self._forget_use(patcher)
        except BaseException as error:
            self._settle(loaded, patcher)
            if isinstance(error, self._passing) or self._lists(loaded):
                raise
            trouble = f"it left, and then: {said(error)}"
        return dict(self._hosting.done(trouble))

    def _lists(self, loaded: Any) -> bool:
        # By identity: ComfyUI's own comparison is by patcher.
        return any(other is loaded for other in self._management.current_loaded_models)

    def _settle(self, loaded: Any, patcher: Any) -> None:
        """An unload failed midway: the model must be off the list, or usable."""
        models = self._management.current_loaded_models
        if loaded.real_model is None:
            # Unloaded but still listed, which ComfyUI's next look at the list would not survive.
            models[:] = [other for other in models if other is not loaded]
        else:
            # Its patches may be out already. Under another id, they are applied again.
            patcher.model.current_weight_patches_uuid = uuid.uuid4()

    def _forget_use(self, patcher: Any) -> None:
        """Newer versions hold paged models until the prompt ends; this one is not needed."""
        for key, tracked in list(getattr(self.tracker, "models", {}).items()):
            if tracked.model is patcher.model:
                tracked.set_in_use_by_current_prompt(False)
                del self.tracker.models[key]


class _NotLoaded:
    """A model to release that sits in RAM only."""

    def __init__(self, patcher: Any) -> None:
        self.model = patcher
        self.device = "no device"

    def model_loaded_memory(self) -> None:
        return None


def _fact(loaded: Any) -> dict[str, Any]:
    """What is known of one model without a look at the workflow."""
    size = loaded.model_loaded_memory()
    return {
        "name": type(loaded.model.model).__name__,
        "files": files.recorded(loaded.model),
        "part": files.part(loaded.model),
        "device": str(loaded.device),
        # Some patchers count below zero while they unload: that is no size.
        "bytes": None if size is None or size < 0 else int(size),
        "pinned": _pinned(loaded.model),
        "loaded": not isinstance(loaded, _NotLoaded),
        "offload_device": _offload_device(loaded.model),
    }


def _is_dynamic(patcher: Any) -> bool:
    return bool(getattr(patcher, "is_dynamic", bool)())


def _pinned(patcher: Any) -> int | None:
    """RAM that is page-locked for a model that ComfyUI pages. What its own `pinned_memory_size` leaves out (patches)
    is RAM too. Of other models nobody counts it."""
    if not _is_dynamic(patcher) or is_off(Off.PINS) is not None:
        return None
    try:
        state = patcher.model.dynamic_pins[patcher.load_device]
        # A tuple for each kind of pin, among switches.
        return sum(int(kind[3][0]) for kind in state.values() if isinstance(kind, tuple))
    except Exception:
        return None


def _pages_models() -> bool:
    """Whether this ComfyUI pages the models that it loads from now on."""
    memory = sys.modules.get("comfy.memory_management")
    return bool(getattr(memory, "aimdo_enabled", False))


def _offload_device(patcher: Any) -> str | None:
    device = getattr(patcher, "offload_device", None)
    # The pages of a paged model leave the device, whatever it names as its offload device.
    return None if device is None or _is_dynamic(patcher) else str(device)
