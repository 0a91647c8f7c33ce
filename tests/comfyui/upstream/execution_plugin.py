"""Runs ComfyUI's own execution tests on servers that have MemSweep among their custom nodes.

    python -m pytest -p execution_plugin --skip-timing-checks tests/execution

in a tree of ComfyUI with MemSweep below its `custom_nodes`, as `cargo xtask test` makes it.
Their fixtures start a server on a fixed port, wait 20 seconds for it and know three cache modes.
Ours takes their place: it waits until the server answers, ends it, and knows the default cache too.
Nothing else of their tests is touched.  With `--stock`, MemSweep is left out: the reference.
"""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest

START_LIMIT_S = 240
# What TestExecution asks its server's parameter for.
CACHES = {
    "classic": {"extra_args": ["--cache-classic"], "should_cache_results": True},
    "lru": {"extra_args": ["--cache-lru", "100"], "should_cache_results": True},
    "none": {"extra_args": ["--cache-none"], "should_cache_results": False},
    "default": {"extra_args": [], "should_cache_results": True},
}
# Their classes, the fixture in each that starts a server, and the caches its tests work with.
SERVERS = {
    "TestExecution": ("server", ("classic", "lru", "none", "default")),
    # Two of its tests want results to be cached, whatever the server's mode.
    "TestAsyncNodes": ("_server", ("classic", "lru", "default")),
    # These start their server without a flag.
    "TestProgressIsolation": ("_server", ("default",)),
    "TestPublicAPI": ("_server", ("default",)),
}
# What most people run, and the one that keeps nothing; `cargo xtask test --large` runs all.
USUAL = ("default", "none")
replaced: set[str] = set()


def pytest_addoption(parser):
    parser.addoption("--stock", action="store_true", help="leave MemSweep out")


def pytest_configure(config):
    # Any other program may have their fixed port.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config.option.port = probe.getsockname()[1]


def pytest_pycollect_makeitem(name, obj):
    """Takes their server fixture out of a class and asks for ours, once for each cache."""
    if name in SERVERS and isinstance(obj, type) and name not in replaced:
        theirs, caches = SERVERS[name]
        if os.environ.get("MEMSWEEP_EXTENT") != "large":
            caches = tuple(cache for cache in caches if cache in USUAL)
        delattr(obj, theirs)
        pytest.mark.usefixtures("server")(obj)
        rows = [pytest.param(CACHES[cache], id=cache) for cache in caches]
        pytest.mark.parametrize("server", rows, indirect=True, scope="class")(obj)
        replaced.add(name)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """A class of theirs that starts a server in a way we do not know would run without MemSweep."""
    # Their hook prints every test.
    with redirect_stdout(io.StringIO()):
        result = yield
    classes = {item.cls.__name__ for item in items if item.get_closest_marker("execution")}
    if not classes or classes - replaced:
        raise pytest.UsageError(f"execution tests that were not taken over: {sorted(classes - replaced) or 'all'}")
    return result


@pytest.fixture(scope="class")
def server(args_pytest, request):
    """One server of a class: started as theirs is, and ended with it."""
    host, port = args_pytest["listen"], args_pytest["port"]
    stock = request.config.getoption("--stock")
    command = [
        sys.executable, "main.py", "--output-directory", args_pytest["output_dir"], "--listen", host, "--port", str(port),
        "--extra-model-paths-config", "tests/execution/extra_model_paths.yaml", "--cpu", *request.param["extra_args"],
    ]
    if stock:
        command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "testing-pack"]
    cache = next(name for name, known in CACHES.items() if known is request.param)
    log_path = Path(f"server-{request.cls.__name__}-{cache}.log").absolute()
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        nodes = wait_for_nodes(f"http://{host}:{port}/object_info/MemSweepFree", process, log_path)
        assert ("MemSweepFree" in nodes) != stock, f"MemSweep is {'' if stock else 'not '}loaded\n{tail(log_path)}"
        yield request.param
        assert process.poll() is None, f"the server ended with {process.returncode}\n{tail(log_path)}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="class")
def _server(server):
    """The name that most of their classes have for it."""
    return server


def wait_for_nodes(url: str, process: subprocess.Popen, log_path: Path) -> dict:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}\n{tail(log_path)}")
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError), urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
        time.sleep(0.25)
    pytest.fail(f"the server did not answer in {START_LIMIT_S} s\n{tail(log_path)}")


def tail(log_path: Path) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-40:])
