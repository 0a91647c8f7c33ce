"""Tests that need a CUDA device. Skipped, by name, where there is none."""

import subprocess
import sys
import textwrap

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def cuda():
    torch = pytest.importorskip("torch")
    # `is_available` asks the driver only; the tests decide when a context is made.
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.cuda


@pytest.fixture
def in_fresh_process(cuda):
    """Runs a script in a process that has not touched the device; answers what it printed."""

    def run(script: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
