"""The executor that is running our node: its nodes, their links, and its cache's entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType, SimpleNamespace
from typing import Any

from .assumptions import Off, is_off
from .entries import Entry, Unidentified, all_caches, is_plain, is_readable
from .findable import Keys
from .frames import execute_frames
from .hook import Prompt
from .reads import reads_of
from .unrepeatable import is_unrepeatable, leads_to_one


def nodes_with_a_spec(prompt: Prompt) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Id, row of the node table and inputs of each node of ours in a prompt as it was queued."""
    import nodes as registry

    for node, data in prompt.nodes.items():
        class_key, inputs = (data.get(name) for name in ("class_type", "inputs"))
        spec = getattr(registry.NODE_CLASS_MAPPINGS.get(class_key), "SPEC", None)
        if spec is not None and isinstance(inputs, dict):
            yield node, spec, inputs


def _refuse_the_unknown() -> None:
    why = is_off(Off.OUTPUTS)
    if why is not None:
        raise Unidentified(why)


class Run:
    """The executor's state around our node, as its frame holds it."""

    def __init__(self, node: str, values: Mapping[str, Any]) -> None:
        self.node = node
        self.list = values["execution_list"]
        self.prompt = values["dynprompt"]
        self.shows_inputs = "input_data_all" in values
        self.inputs = values.get("input_data_all") or {}
        # Without one of these it is not known who holds an output's list.
        known = hasattr(self.list, "execution_cache")
        self.executed = values.get("executed") if known else None
        self.expansions = values.get("pending_subgraph_results")
        # Results of a loop of ComfyUI's own, until the node at its end has run.
        results = getattr(self.list, "externalBlockResults", None)
        self.loop_results = dict(results) if isinstance(results, dict) else {}
        # What the executor holds of outputs beside its caches and this node's inputs.
        self.held = [
            self.expansions, values.get("pending_async_nodes"),
            getattr(self.list, "execution_cache", None),
            results,
        ]
        self.lacks = sorted({"pending_subgraph_results", "pending_async_nodes"} - values.keys())
        self.tracker = getattr(getattr(self.list, "output_link_callback", None), "__self__", None)

    @classmethod
    def find(
        cls, node: str, dynprompt: Any, variables: Callable[[FrameType], dict[str, Any]]
    ) -> Run:
        """Raises `Unidentified` with what did not match. `variables` reads a frame's variables."""
        _refuse_the_unknown()
        if dynprompt is None:
            raise Unidentified("it handed over no prompt")
        for frame in execute_frames():
            values = variables(frame)
            if {"execution_list", "dynprompt"} <= values.keys():
                run = cls(node, values)
                run._verify(dynprompt)
                return run
        raise Unidentified("no frame of `execution.execute` is on the stack")

    @classmethod
    def ended(cls, executor: Any) -> Run:
        """The state of an executor whose prompt has ended: nothing is pending, and nobody but its caches
        holds an output. Raises `Unidentified` with what did not match."""
        _refuse_the_unknown()
        root = executor.caches.outputs
        dynprompt = getattr(root, "dynprompt", None)
        if dynprompt is None:
            raise Unidentified("its output cache holds no prompt")
        ended = SimpleNamespace(
            dynprompt=dynprompt, pendingNodes={}, output_cache=root, execution_cache={}
        )
        values = {
            "execution_list": ended, "dynprompt": dynprompt,
            "input_data_all": {}, "pending_subgraph_results": {}, "pending_async_nodes": {},
        }
        run = cls("", values)
        run._verify_caches()
        return run

    def _verify(self, dynprompt: Any) -> None:
        if getattr(self.list, "dynprompt", None) is not dynprompt:
            raise Unidentified("its list belongs to another prompt")
        pending = getattr(self.list, "pendingNodes", None)
        if not isinstance(pending, dict):
            raise Unidentified(f"its pending nodes are a {type(pending).__name__}")
        if self.node not in pending:
            raise Unidentified("this node is not pending in it")
        self._verify_caches()

    def _verify_caches(self) -> None:
        for cache in all_caches(getattr(self.list, "output_cache", None)):
            keys = getattr(cache, "cache_key_set", None)
            # One that derives from ComfyUI's may have tables of its own.
            is_known = type(cache).__module__ == "comfy_execution.caching"
            if not is_known or not isinstance(cache.cache, dict) or not hasattr(keys, "get_data_key"):
                raise Unidentified(f"its output cache is a {type(cache).__name__}")

    def describe(self) -> tuple[list[Entry], dict[str, Any], list[Any]]:
        """Entries, executor facts without slots, and the slot values in entry order."""
        root = self.list.output_cache
        if hasattr(root, "cache"):
            entries = [
                Entry(cache, key, entry)
                for cache in all_caches(root)
                for key, entry in list(cache.cache.items())
            ]
            numbers = {(id(e.cache), e.key): number for number, e in enumerate(entries)}
        elif type(root).__name__ == "NullCache":
            # Nothing to evict, but what pending nodes hold says which models they need.
            entries, numbers = self._held()
        else:
            raise Unidentified(f"its output cache is a {type(root).__name__}")
        if not self.shows_inputs:
            raise Unidentified("its frame does not show the node's inputs")
        nodes = list(self._nodes(numbers))
        # Only for these does it matter whether a later prompt can find them.
        feeding = {link["source"] for node in nodes if node["output"] for link in node["links"]}
        for node in nodes:
            if node["entry"] is not None:
                entry = entries[node["entry"]]
                entry.nodes.append(node["id"])
                made_now = self.executed is None or node["id"] in self.executed
                entry.made_now = entry.made_now or made_now
                entry.feeds = entry.feeds or node["id"] in feeding
        facts = {
            "kind": "identified",
            "running": self.node,
            "keeps_nothing": not hasattr(root, "cache"),
            "nodes": nodes,
            "entries": self._entry_facts(entries),
        }
        slots = [value for entry in entries if is_readable(entry) for value in entry.outputs]
        return entries, facts, slots

    def fill(self, facts: dict[str, Any], slots: list[Any], reached: list[Any]) -> None:
        """Puts what each slot reaches into the entry facts."""
        rows = iter(zip(slots, reached, strict=True))
        for fact in facts.get("entries", ()):
            if fact["slots"] is not None:
                fact["slots"] = [
                    {**found, "plain": is_plain(value)}
                    for value, found in (next(rows) for _ in range(fact["slots"]))
                ]

    def _held(self) -> tuple[list[Entry], dict[Any, int]]:
        """Results that the executor itself keeps for pending nodes, numbered by source node."""
        sources = {
            source: entry
            for of_consumer in getattr(self.list, "execution_cache", {}).values()
            for source, entry in of_consumer.items()
            if entry is not None
        }
        entries = [Entry(None, source, entry) for source, entry in sources.items()]
        return entries, {source: number for number, source in enumerate(sources)}

    def _entry_facts(self, entries: Iterable[Entry]) -> list[dict[str, Any]]:
        consumers: dict[int, list[str]] = {}
        for consumer, sources in getattr(self.list, "execution_cache", {}).items():
            for held in {id(value) for value in sources.values()}:
                consumers.setdefault(held, []).append(consumer)
        keys = Keys(all_caches(self.list.output_cache), self.prompt)
        return [
            {
                "slots": len(entry.outputs) if is_readable(entry) else None,
                "has_ui": entry.has_ui(),
                "held_for": consumers.get(id(entry.entry), []),
                "unfindable": entry.feeds and keys.is_unfindable(entry.key),
                "unrepeatable": leads_to_one(entry.cache, entry.key, entry.nodes),
            }
            for entry in entries
        ]

    def _nodes(self, numbers: Mapping[Any, int]) -> Iterator[dict[str, Any]]:
        import nodes as registry

        for node_id in sorted(self.prompt.all_node_ids()):
            node = self.prompt.get_node(node_id)
            cls = registry.NODE_CLASS_MAPPINGS.get(node.get("class_type"))
            inputs = node.get("inputs")
            unread = cls is None or not isinstance(inputs, dict)
            reads = "anything" if unread else reads_of(cls)
            yield {
                "id": node_id,
                "class": str(node.get("class_type")),
                "pending": node_id in self.list.pendingNodes,
                "output": bool(getattr(cls, "OUTPUT_NODE", False)),
                "reads": reads,
                "expanded": self._expanded(node_id),
                "unrepeatable": is_unrepeatable(cls),
                "parent": self.prompt.get_parent_node_id(node_id),
                "links": [] if unread else list(_links(inputs.values())),
                "names": self._named(node) if reads == "upstream" else [],
                "entry": self._entry_number(node_id, numbers),
            }

    def _named(self, node: Mapping[str, Any]) -> list[str]:
        """Nodes that it names without a link. ComfyUI writes the body of a loop of its own beside the
        start node's inputs."""
        texts: list[Any] = []
        for value in (*node["inputs"].values(), node.get("_loop_body"), node.get("_loop_end")):
            texts += value if isinstance(value, (list, tuple)) else [value]
        return [text for text in texts if isinstance(text, str) and self.prompt.has_node(text)]

    def _expanded(self, node_id: str) -> list[dict[str, Any]] | None:
        """What a node that became others waits for; `None` where it did not, or that is not known."""
        if not isinstance(self.expansions, dict) or node_id not in self.expansions:
            return None
        links: list[dict[str, Any]] = []
        try:
            for expands, results in self.expansions[node_id]:
                if expands:
                    links += _links(results)
        except (TypeError, ValueError):
            # Not of the shape we know.
            return None
        return links

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


_NO_SLOT = 2**32 - 1


def _links(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            if isinstance(value[1], (int, float)):
                # ComfyUI counts a negative one from the end; no output has this number, so all stay.
                yield {"source": value[0], "slot": int(value[1]) if 0 <= value[1] < _NO_SLOT else _NO_SLOT}
