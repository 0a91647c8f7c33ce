"""Servers shared by the tests, and the oracle: the same prompt without MemSweep's nodes."""

import gc
import json
import sys
import threading
from pathlib import Path

import pytest
from extent import first

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.comfy_server import FAST_FLAGS, ComfyServer  # noqa: E402
from harness.executor import CACHES  # noqa: E402
from harness.paths import checkpoints, comfyui_tree  # noqa: E402


def pytest_sessionstart(session):
    for path in (comfyui_tree() / "main.py", checkpoints() / "small.safetensors"):
        if not path.exists():
            raise pytest.UsageError(f"{path} is missing: run `cargo xtask setup` first")


def pytest_collection_modifyitems(items):
    """With several workers: what shares a server stays together, random workflows spread out, and the
    longest comes first, so that no worker is left waiting for it."""
    items.sort(key=lambda item: item.path.name not in ("test_scenarios.py", "test_older_versions.py"))
    for item in items:
        server = getattr(item, "callspec", None) and item.callspec.params.get("server")
        name = item.name if item.get_closest_marker("graphs") else f"{item.path.name} {server}"
        item.add_marker(pytest.mark.xdist_group(name))


class Oracle:
    """Image hashes of prompts without MemSweep, each computed once, on a server without the pack."""

    def __init__(self):
        self._server: ComfyServer | None = None
        self._hashes: dict[str, list[str]] = {}

    def hashes(self, prompt: dict) -> list[str]:
        """`prompt` must already be without our nodes; the file prefix does not matter."""
        plain = json.loads(json.dumps(prompt))
        for node in plain.values():
            node["inputs"].pop("filename_prefix", None)
        key = json.dumps(plain, sort_keys=True)
        if key not in self._hashes:
            if self._server is None:
                self._server = ComfyServer("default", with_pack=False, flags=FAST_FLAGS).__enter__()
            result = self._server.run(prompt)
            assert result.ok, f"the oracle itself failed: {result.error}"
            assert result.image_hashes, "the oracle saved no image"
            self._hashes[key] = result.image_hashes
        return self._hashes[key]

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


@pytest.fixture(scope="session")
def oracle():
    found = Oracle()
    yield found
    found.close()


@pytest.fixture(scope="session")
def comfy():
    """ComfyUI's executor in this process, with MemSweep loaded as a node pack."""
    from harness import executor

    executor.boot()
    assert executor.load_pack(), "ComfyUI could not load the pack"
    leave_out_threads_of_the_test_runner(executor.pack("comfy_host.others"))
    # ComfyUI brings half a million objects. Out of the collector's way they cost the
    # hundreds of small sweeps below nothing; what a test makes is collected as ever.
    gc.collect()
    gc.freeze()
    yield executor
    gc.unfreeze()


def leave_out_threads_of_the_test_runner(others):
    """They are not ComfyUI's, and are inside calls that hold what a test was given."""
    busy, theirs = others._busy_threads, {thread.name for thread in threading.enumerate()}
    # Some have no name that Python knows.
    theirs.update(name for name, _ in busy())
    others._busy_threads = lambda: [row for row in busy() if row[0] not in theirs]


@pytest.fixture
def toys(comfy):
    """The toy nodes, with nothing remembered of earlier tests."""
    import comfy.model_management
    from harness import toys as module

    comfy.model_management.unload_all_models()
    gc.collect()
    module.forget()
    yield module
    module.forget()


@pytest.fixture(params=first(2, CACHES))
def runner(request, comfy, toys):
    """An executor with each cache class in turn."""
    return comfy.Runner(request.param)


@pytest.fixture
def faults(comfy, toys, monkeypatch):
    """What breaks a step on purpose; its toy nodes are registered for this test."""
    import nodes
    from harness import faults as module

    for name, toy in module.FAULT_TOYS.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, toy)
    return module


@pytest.fixture
def case(comfy, toys, faults):
    """A workflow in which one thing can be broken, and what must hold afterwards."""
    made = faults.Case(comfy, toys)
    yield made
    made.mend()


@pytest.fixture(scope="session")
def zoo(comfy, tmp_path_factory):
    """The nodes of the random workflows; answers with what plays a case."""
    from graphs import play, zoo

    with zoo.opened(tmp_path_factory.mktemp("input")):
        yield play


def pytest_terminal_summary(terminalreporter):
    """What really happened in the suites that count it; also with several workers."""
    for kind in ("passed", "failed"):
        for report in terminalreporter.stats.get(kind, ()):
            for name, text in getattr(report, "user_properties", ()):
                terminalreporter.write_line(f"{name}: {text}")
