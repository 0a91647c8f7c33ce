"""The host of one sweep: answers what a sweep asks, and carries out what was decided, by number."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import held_memory, hook, showing
from .assumptions import Off, is_off
from .errors import STOPS, failed, said
from .facts import Facts
from .models import Models
from .reads import is_ours
from .titles import Titles


def owner_of(key: str) -> str | None:
    """The module of another pack's class already registered under this key."""
    nodes = sys.modules.get("nodes")
    owner = getattr(nodes, "NODE_CLASS_MAPPINGS", {}).get(key)
    return None if owner is None or is_ours(owner) else str(owner.__module__)


class ComfyHost:
    """The host of one sweep in one node."""

    def __init__(
        self, hosting: Any, unique_id: Any, dynprompt: Any, metadata: Any = None,
        ended: hook.Prompt | None = None,
    ) -> None:
        """`ended`: the prompt that has ended, for a sweep after it."""
        import comfy.model_management as management

        self.node = str(unique_id)
        self._ended = ended
        cancels = [] if is_off(Off.CANCEL) else [management.InterruptProcessingException]
        self.passing = (*cancels, *STOPS)
        titles = Titles(dynprompt, metadata)
        self.name = titles.name(self.node)
        self.shown, self.place = titles.shown(self.node), titles.place(self.node)
        self.models = Models(hosting, self.passing)
        executor = None if ended is None else ended.executor
        self.facts = Facts(
            hosting, self.node, dynprompt, titles, self.models, self.passing, executor
        )
        self._hosting = hosting
        self._torch = hosting.TorchHost()
        self._management = management

    # What a node asks.

    def loaded_models(self) -> list[dict[str, Any]]:
        """The facts of each managed model."""
        return self.facts.loaded_models()

    def inventory(
        self, protected: Mapping[str, Any], targets: list[Any] | None = None
    ) -> dict[str, Any]:
        """The facts of a plan. `targets` are models to release by name, wherever they sit."""
        return self.facts.inventory(protected, targets)

    def after_node(self, callback: Callable[[], Any]) -> None:
        """Calls back once this node is done: until then its own inputs are in use.

        Without the hook this is at the next suspension, as the executor runs nodes inside one step
        of its event loop, and at the latest when the prompt ends.
        """
        prompt = hook.current()
        if prompt is not None:
            prompt.after_node.append(callback)
            return
        try:
            asyncio.get_running_loop().call_soon(callback)
        except RuntimeError:
            pass

    def tell(self, output: dict[str, Any], first: str) -> None:
        """Shows a node's output on the node that people see. In the history it has the place of `first`."""
        try:
            showing.tell(self.node, self.shown, first, output, self._hosting.variables)
        except self.passing:
            raise
        except Exception:
            # Nobody has to be looking.
            pass

    def show_at_end(self, output: dict[str, Any]) -> None:
        """Shows a node's output although the prompt has ended: on the page, and in the history that
        ComfyUI is about to keep."""
        if self._ended is None:
            return
        try:
            showing.show_at_end(self._ended, self.node, self.shown, output)
        except self.passing:
            raise
        except Exception:
            # Nobody has to be looking.
            pass

    # What a sweep asks of a host.

    def devices(self) -> str:
        rows = json.loads(self._torch.devices())
        for row in rows:
            device = row["id"]
            row["comfyui"] = {
                "paged": self.models.paged(device),
                "models": self.models.in_torch(device),
            }
        return json.dumps(rows)

    def check_cancelled(self) -> None:
        held_memory.check_cancelled()

    def release(self, action: str) -> str:
        try:
            return json.dumps(self._carry_out(json.loads(action)))
        except self.passing:
            raise
        except BaseException as error:
            return json.dumps(failed(said(error)))

    def parking(self) -> Any:
        """What the park step asks for."""
        try:
            progress = held_memory.Progress(self.passing)
            folder = held_memory.spill_folder()
            return self._hosting.Parking(self.facts.storages, folder, progress)
        except self.passing:
            raise
        except BaseException as error:
            # The native module lets all but an `Exception` through.
            raise RuntimeError(said(error)) from None

    def destroying(self) -> Any:
        """What the destroy step asks for."""
        try:
            return held_memory.destroying(self._hosting, self.facts, self.node)
        except self.passing:
            raise
        except BaseException as error:
            raise RuntimeError(said(error)) from None

    # Releases.

    def _carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["kind"] == "evict":
            return self._evict(request["entries"])
        if request["kind"] == "unload":
            return self.models.unload(request["model"])
        outcome: dict[str, Any] = self._torch.carry_out(request)
        if request["kind"] == "empty_device_cache" and outcome["kind"] != "done":
            outcome = self._empty_foreign_cache(outcome)
        return outcome

    def _evict(self, numbers: Iterable[int]) -> dict[str, Any]:
        chosen = [(number, self.facts.entries[number]) for number in numbers]
        gone, refused = 0, []
        for number, entry in chosen:
            try:
                gone += entry is not None and entry.evict()
                # One that could not be dropped stays, and what it holds.
                self.facts.entries[number] = None
            except self.passing:
                raise
            except BaseException as error:
                refused.append(said(error))
        if not gone:
            if refused:
                return failed(refused[0])
            return dict(self._hosting.nothing("entries_gone"))
        stayed = f"; {len(refused)} could not be dropped: {refused[0]}" if refused else ""
        return dict(self._hosting.done(f"{gone} entries{stayed}"))

    def _empty_foreign_cache(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Devices that only ComfyUI knows how to empty (NPU, MLU)."""
        device = self._management.get_torch_device()
        if device.type in ("cpu", "cuda", "xpu", "mps"):
            return outcome
        self._management.soft_empty_cache()
        return dict(self._hosting.done(str(device)))


if TYPE_CHECKING:
    from memsweep.hosting import Host

    # The pack must run without the library, so only the type checker sees that this is a host.
    _IS_A_HOST: type[Host] = ComfyHost
