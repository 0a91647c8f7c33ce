"""From a case to the prompts that ComfyUI queues, with MemSweep's nodes or without."""

from __future__ import annotations

from dataclasses import dataclass, field

from workflows import node

from graphs.case import Case, Turn, Workflow
from graphs.kinds import NO_FAILURE


@dataclass
class Player:
    """Keeps what the user edited, and writes the prompt of each turn."""

    case: Case
    with_sweeps: bool
    edited: dict[tuple[int, int, str], object] = field(default_factory=dict)

    def prompt(self, turn: Turn) -> tuple[dict, list[str]]:
        """The prompt, and the nodes that it was asked for."""
        for number, widget, value in turn.edits:
            self.edited[turn.workflow, number, widget] = value
        workflow = self.case.workflows[turn.workflow]
        prompt = self._plain(workflow, turn)
        if self.with_sweeps:
            self._add_sweeps(workflow, prompt)
        ends = {f"n{number}" for number in turn.only or workflow.shows()}
        asked = [name for name in prompt if name in ends or name.startswith("t")]
        return prompt, asked

    def _plain(self, workflow: Workflow, turn: Turn) -> dict:
        prompt = {}
        for number, spec in enumerate(workflow.specs):
            widgets = dict(spec.widgets)
            for name in widgets:
                widgets[name] = self.edited.get((turn.workflow, number, name), widgets[name])
            if spec.kind.node == "ToyFail":
                widgets["how"] = turn.failure or NO_FAILURE
            if spec.kind.node in ("ToyGrow", "ToyUnroll") and not self.with_sweeps:
                widgets["sweep"] = "none"
            links = {name: written(link) for name, link in spec.links.items()}
            prompt[f"n{number}"] = node(spec.kind.node, **widgets, **links)
        return prompt

    def _add_sweeps(self, workflow: Workflow, prompt: dict) -> None:
        for number, sweep in enumerate(workflow.sweeps):
            inputs = dict(sweep.kind.widgets)
            inputs |= {name: written(link) for name, link in sweep.also.items()}
            if sweep.before is None:
                name = "data0" if sweep.kind.also else "anything"
                prompt[f"t{number}"] = node(sweep.kind.node, **inputs, **{name: written(sweep.on)})
                continue
            consumer, name = sweep.before
            inputs[sweep.kind.passes] = prompt[f"n{consumer}"]["inputs"][name]
            prompt[f"s{number}"] = node(sweep.kind.node, **inputs)
            prompt[f"n{consumer}"]["inputs"][name] = [f"s{number}", 0]


def written(link: tuple[int, int]) -> list:
    return [f"n{link[0]}", link[1]]
