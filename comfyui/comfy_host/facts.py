"""The facts of one plan, and what its numbers stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import files
from .assumptions import Off, is_off
from .entries import Entry, Unidentified
from .errors import said
from .executor import Run
from .models import Models
from .titles import Titles


class Facts:
    """Describes models and outputs for one node, and keeps them by number until they are acted on."""

    def __init__(
        self, hosting: Any, node: str, prompt: Any, titles: Titles, models: Models,
        passing: tuple[type[BaseException], ...], ended: Any = None,
    ) -> None:
        # `None` for one that was dropped.
        self.entries: list[Entry | None] = []
        self.connected: list[Any] = []
        self.storages: Any = None
        self._hosting = hosting
        self._node = node
        self._prompt = prompt
        self._titles = titles
        self._models = models
        self._passing = passing
        # An executor whose prompt has ended.
        self._ended = ended
        self._run: Run | None = None

    def inventory(
        self, protected: Mapping[str, Any], targets: list[Any] | None
    ) -> dict[str, Any]:
        """The facts. `targets` are models to release by name, wherever they sit."""
        storages = self.storages = self._hosting.Storages()
        self._models.number()
        roots = list(protected.values())
        run, executor, slots = self._executor()
        if run is not None:
            # A list input calls the node once per item; the executor holds all of them.
            roots += [run.inputs.get(name) for name in protected]
            self._models.tracker = run.tracker
        self.connected = roots
        types = (*self._hosting.memory_types(), *self._models.types())
        loops = {} if run is None else run.loop_results
        reached = self._hosting.reach_many(
            [roots, targets or [], *([value] for value in (*loops.values(), *slots))], types
        )
        chosen = self._models.targets(reached[1]) if targets else []
        facts = [self._slot_facts(hits) for hits in reached]
        del reached
        self._run = run
        if run is not None:
            given, facts[2:] = facts[2 : 2 + len(loops)], facts[2 + len(loops) :]
            run.fill(executor, slots, facts[2:])
            if executor["kind"] == "identified":
                executor["loop_results"] = [
                    {"node": node, **found} for node, found in zip(loops, given, strict=True)
                ]
        del slots
        for node in executor.get("nodes", ()):
            node["title"] = self._titles.of(node["id"])
            shown = self._titles.shown(node["id"])
            node["shown"] = None if shown == node["id"] else shown
        connected = {name: facts[0][name] for name in ("storages", "models")}
        models = self._models.facts(self._files(executor))
        for model, user in zip(models, self._models.users(), strict=True):
            model["in_use_by"] = user
        return {
            "storages": storages.facts(),
            "models": models,
            "targets": chosen,
            "only_targets": targets is not None,
            "connected": connected,
            "executor": executor,
            "mapped_files": files.mapped(self._hosting),
        }

    def staying(self) -> list[Any]:
        """What must stay as objects, wherever their memory is by now: an unload moves it."""
        held = [] if self._run is None else self._run.held
        entries = (entry.entry for entry in self.entries if entry is not None)
        return [*self.connected, *entries, *held]

    def cannot_destroy(self) -> str | None:
        """Why it is not known what ComfyUI's executor holds."""
        if self._run is not None and self._run.lacks:
            return f"its frame does not show {' and '.join(self._run.lacks)}"
        return is_off(Off.DESTROYING)

    def loaded_models(self) -> list[dict[str, Any]]:
        """The facts of the models that are loaded, without a plan."""
        self._models.number()
        return self._models.facts(self._files_alone())

    def _executor(self) -> tuple[Run | None, dict[str, Any], list[Any]]:
        """The executor around us, its facts without what its outputs reach, and these outputs."""
        run: Run | None = None
        slots: list[Any] = []
        try:
            if self._ended is None:
                run = Run.find(self._node, self._prompt, self._hosting.variables)
            else:
                run = Run.ended(self._ended)
            entries, executor, slots = run.describe()
            self.entries = [*entries]
        except Unidentified as reason:
            executor = {"kind": "unidentified", "reason": str(reason)}
        except self._passing:
            # In older versions a cancel is an `Exception` too.
            raise
        except Exception as error:
            executor = {"kind": "unidentified", "reason": f"it cannot be read: {said(error)}"}
        return run, executor, slots

    def _slot_facts(self, hits: list[Any]) -> dict[str, list[int]]:
        return {"storages": self.storages.numbers(hits), "models": self._models.among(hits)}

    def _files(self, executor: Mapping[str, Any]) -> dict[int, list[str]]:
        """Files known only from the loaders in the workflow. A plan must not fail for want of a name."""
        try:
            return files.of_loaders(executor, self._prompt, self._models.without_record())
        except self._passing:
            raise
        except Exception:
            return {}

    def _files_alone(self) -> dict[int, list[str]]:
        """The same where nothing else is asked of the workflow."""
        if not self._models.without_record():
            return {}
        run, executor, slots = self._executor()
        self.entries = []
        if run is None:
            return {}
        try:
            reached = self._hosting.reach_many([[value] for value in slots], self._models.types())
        except self._passing:
            raise
        except BaseException:
            return {}
        run.fill(executor, slots, [{"models": self._models.among(hits)} for hits in reached])
        return self._files(executor)
