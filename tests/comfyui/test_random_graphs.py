"""Promise P1 on graphs nobody thought of: random workflows, random sweeps in them, random edits between prompts.

The oracle is the same sequence of prompts, without the sweeps, on an executor of its own.
A failure names its seed; MEMSWEEP_RANDOM_GRAPHS=500 tries that many seeds.
"""

import os
import random

import pytest
from workflows import OUR_NODES, bypass, node

GRAPHS = int(os.environ.get("MEMSWEEP_RANDOM_GRAPHS") or 8)
PROMPTS = 4


class Workflow:
    """A random acyclic graph that can be edited and turned into a prompt."""

    def __init__(self, chance: random.Random):
        self.chance = chance
        self.nodes: dict[str, dict] = {}
        self.outputs: list[list] = []  # links to single tensors
        self.count = 0
        for _ in range(2):
            self.add_source()
        for _ in range(chance.randint(4, 9)):
            self.add_any()
        for _ in range(chance.randint(1, 3)):
            self.add("ToySave", 0, value=self.link())

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def add(self, kind: str, outputs: int, **inputs) -> str:
        name = self.name()
        self.nodes[name] = node(kind, **inputs)
        self.outputs += [[name, slot] for slot in range(outputs)]
        return name

    def link(self) -> list:
        # Recent outputs first, so that chains grow long.
        return list(self.chance.choice(self.outputs[-5:] if self.chance.random() < 0.7 else self.outputs))

    def add_source(self) -> None:
        # Two seeds only: identical nodes, which share one cache entry, come up often.
        self.add("ToySource", 1, label="source", seed=self.chance.randint(1, 2))

    def add_any(self) -> None:
        kind = self.chance.choice(
            ["ToyStep"] * 3 + ["ToyMix"] * 3
            + ["ToyPair", "ToyView", "ToyAsync", "ToyExpand", "ToyRaw", "ToyChoose", "ToySource", "list"]
        )
        if kind == "ToySource":
            self.add_source()
        elif kind == "ToyMix":
            self.add(kind, 1, label="mix", a=self.link(), b=self.link())
        elif kind in ("ToyPair", "ToyExpand"):
            self.add(kind, 2, label=kind, value=self.link())
        elif kind == "ToyRaw":
            self.add(kind, 1, label="raw", link=self.link(), after=self.link())
        elif kind == "ToyChoose":
            self.add(kind, 1, which=self.chance.choice("ab"), a=self.link(), b=self.link(), after=self.link())
        elif kind == "list":
            items = self.add("ToyList", 0, label="list", value=self.link())
            step = self.add("ToyStep", 0, label="item", value=[items, 0])
            self.add("ToySaveList", 0, values=[step, 0])
        else:
            self.add(kind, 1, label=kind, value=self.link())

    def edit(self) -> None:
        """What a user does between two prompts: another seed, one node more, another preview."""
        change = self.chance.random()
        sources = [data for data in self.nodes.values() if data["class_type"] == "ToySource"]
        if change < 0.4:
            self.chance.choice(sources)["inputs"]["seed"] = self.chance.randint(1, 3)
        elif change < 0.6:
            self.add_any()
            self.add("ToySave", 0, value=self.outputs[-1])
        elif change < 0.8:
            self.add("ToySave", 0, value=self.link())
        # Else: the same prompt again.

    def prompt(self) -> dict:
        """The prompt with sweeps on random links, other ones each time."""
        prompt = {name: {**data, "inputs": dict(data["inputs"])} for name, data in self.nodes.items()}
        # Not on a raw link: there the node gets the link itself, which a sweep in between changes.
        links = [
            (name, key) for name, data in prompt.items() for key, value in data["inputs"].items()
            if isinstance(value, list) and (data["class_type"], key) != ("ToyRaw", "link")
        ]
        for number, (name, key) in enumerate(self.chance.sample(links, min(len(links), self.chance.randint(1, 3)))):
            kind, passed, inputs = self.chance.choice(
                [("MemSweepFree", "anything", {"level": "evict"}), ("MemSweepFree", "anything", {"level": "unload"}),
                 ("FreeMemoryImage", "image", {"aggressive": True}), ("CleanMemory_PurgePass", "data", {"mode": "RAM"})]
            )
            prompt[f"sweep{number}"] = node(kind, **{passed: prompt[name]["inputs"][key]}, **inputs)
            prompt[name]["inputs"][key] = [f"sweep{number}", 0]
        if self.chance.random() < 0.5:
            kind = self.chance.choice(["CleanMemory_PurgeAll", "CleanMemory_PurgeRAM"])
            prompt["terminal"] = node(kind, anything=self.link())
        return prompt


def without_sweeps(prompt: dict) -> dict:
    plain = bypass(prompt)
    for data in plain.values():
        if data["class_type"] == "ToyExpand":
            data["inputs"]["level"] = "trim"
    return plain


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_sweeps_never_change_a_result(runner, comfy, toys, seed):
    chance = random.Random(seed)
    workflow = Workflow(chance)
    oracle = comfy.Runner(runner.cache)
    for turn in range(PROMPTS):
        prompt = workflow.prompt()
        assert any(data["class_type"] in OUR_NODES for data in prompt.values())
        expected = oracle.run(without_sweeps(prompt))
        assert expected.ok, f"seed {seed}, prompt {turn}: the oracle failed: {expected.error}"
        result = runner.run(prompt)
        assert result.ok, f"seed {seed}, prompt {turn}: {result.error}"
        assert result.saved() == expected.saved(), f"seed {seed}, prompt {turn}\n{prompt}"
        runner.check_side_tables()
        workflow.edit()
