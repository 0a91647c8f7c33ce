"""ComfyUI's real PromptExecutor in this process, with a fake server object.

ComfyUI is imported once, with the CPU chosen before anything asks for a device.
A `Runner` is one executor with one cache class; any number can live side by side.
"""

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path

from harness.paths import REPOSITORY, comfyui_tree
from harness.reports import unpacked

CACHES = ("RAM_PRESSURE", "CLASSIC", "LRU", "NONE")


def boot() -> None:
    """Imports ComfyUI's executor; does nothing the second time."""
    if "execution" in sys.modules:
        return
    sys.path.insert(0, str(comfyui_tree()))
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        import comfy.options

        comfy.options.enable_args_parsing(False)
        from comfy.cli_args import args

        args.cpu = True
        import execution  # noqa: F401
        import nodes

        from harness import toy_loops, toys
    finally:
        sys.argv = arguments
    nodes.NODE_CLASS_MAPPINGS.update({**toys.TOYS, **toy_loops.TOYS})


def load_pack() -> bool:
    """Loads MemSweep as ComfyUI does: from a folder of custom nodes."""
    import nodes

    folder = Path(tempfile.mkdtemp(prefix="memsweep-custom-nodes-"))
    link = folder / "memsweep"
    link.symlink_to(REPOSITORY)
    try:
        return asyncio.run(nodes.load_custom_node(str(link)))
    finally:
        # The modules are imported: the link is not needed any more.
        with contextlib.suppress(OSError):
            os.unlink(link)
            os.rmdir(folder)


def pack(name: str):
    """A module of the loaded node pack, whatever name ComfyUI loaded it under."""
    import nodes

    ours = nodes.NODE_CLASS_MAPPINGS["MemSweepFree"].__module__
    return sys.modules[ours.removesuffix("nodes") + name]


def executor_locals() -> dict:
    """The locals of `execution.execute` around the node that is running."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "execute" and "execution_list" in frame.f_locals:
            return dict(frame.f_locals)
        frame = frame.f_back
    raise AssertionError("no executor around us")


class FakeServer:
    """What PromptExecutor touches of PromptServer."""

    def __init__(self):
        self.client_id = None
        self.last_node_id = None
        self.last_prompt_id = None
        self.sockets_metadata = {}
        self.sent: list[tuple] = []
        # Nodes in the order they ran; one that waits for others is there twice.
        self.executing: list[str] = []

    def send_sync(self, event, data, sid=None):
        # Only names: the data may hold what a weakref test watches.
        self.sent.append(event)
        if event == "executing" and data["node"] is not None:
            self.executing.append(data["node"])


class Result:
    """What one prompt gave."""

    def __init__(self, executor):
        self.ok: bool = executor.success
        self.outputs: dict = executor.history_result["outputs"] if self.ok else {}
        self.messages: list = executor.status_messages

    @property
    def interrupted(self) -> bool:
        return any(kind == "execution_interrupted" for kind, _ in self.messages)

    @property
    def error(self) -> str:
        for kind, data in self.messages:
            if kind == "execution_error":
                return f"{data['node_id']}: {data['exception_type']}: {data['exception_message']}"
        return ""

    @property
    def cached(self) -> set[str]:
        return {node for kind, data in self.messages if kind == "execution_cached" for node in data["nodes"]}

    def report(self, node: str) -> dict | None:
        """The report a node left, exactly one; None where the sweep stopped without."""
        found = self.outputs[node]["memsweep"]
        assert len(found) == 1, f"{node} left {len(found)} reports"
        return unpacked(found[0])

    def text(self, node: str) -> str:
        return "\n".join(self.outputs[node]["text"])

    def saved(self) -> dict[str, list]:
        """What each ToySave saw: the result of the prompt."""
        return {node: output["saved"] for node, output in self.outputs.items() if "saved" in output}


class Runner:
    """One executor with one cache class."""

    def __init__(self, cache: str):
        import execution

        self.cache = cache
        self.server = FakeServer()
        self.executor = execution.PromptExecutor(
            self.server, cache_type=execution.CacheType[cache],
            cache_args={"lru": 100, "ram": 0, "ram_inactive": 0},
        )

    def run(self, prompt: dict, outputs: list[str] | None = None, metadata: object = None) -> Result:
        """Runs what `outputs` names; all output nodes when it names nothing. `metadata` is what the page
        sends along."""
        import nodes

        if outputs is None:
            outputs = [
                node for node, data in prompt.items()
                if getattr(nodes.NODE_CLASS_MAPPINGS[data["class_type"]], "OUTPUT_NODE", False)
            ]
        self.executor.success = True
        # ComfyUI deep-copies what it queues; an executor must not share our dicts.
        prompt = {name: {**data, "inputs": dict(data["inputs"])} for name, data in prompt.items()}
        # With a client, older versions too report what cached nodes show.
        extra = {"client_id": "tests", **({} if metadata is None else {"extra_pnginfo": metadata})}
        self.executor.execute(prompt, uuid.uuid4().hex, extra, outputs)
        return Result(self.executor)

    def reset(self) -> None:
        """What POST /free does to the caches."""
        self.executor.reset()

    def check_side_tables(self) -> None:
        """The cache's own bookkeeping must know every key it holds, or its next clean-up raises."""
        cache = self.executor.caches.outputs
        for table in ("used_generation", "timestamps"):
            if hasattr(cache, table) and hasattr(cache, "cache"):
                missing = set(cache.cache) - set(getattr(cache, table))
                assert not missing, f"{table} lost {len(missing)} keys"


@contextlib.contextmanager
def quiet():
    """Hides the tracebacks ComfyUI logs for failures that a test provokes."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
