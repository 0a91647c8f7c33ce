"""Runs ComfyUI's own unit tests in a process into which MemSweep was imported first.

    python -m pytest -p unit_plugin tests-unit/execution_test ...

in a tree of ComfyUI with MemSweep below its `custom_nodes`, as `cargo xtask test` makes it.
They import modules and know no custom nodes: that they pass shows that importing the pack
changes nothing they look at.  With `--stock`, MemSweep is left out: the reference.
"""

import asyncio
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--stock", action="store_true", help="leave MemSweep out")


def pytest_configure(config):
    # A torch that was built for CUDA asks for a device on import, unless told before.
    from comfy.cli_args import args

    args.cpu = True
    import nodes

    if config.getoption("--stock"):
        return
    before = dict(nodes.NODE_CLASS_MAPPINGS)
    pack = Path.cwd() / "custom_nodes" / "memsweep"
    if not asyncio.run(nodes.load_custom_node(str(pack))):
        raise pytest.UsageError(f"ComfyUI could not import {pack}")
    ours = set(nodes.NODE_CLASS_MAPPINGS) - set(before)
    if not ours >= {"MemSweepFree", "MemSweepReport", "MemSweepReleaseModel"}:
        raise pytest.UsageError(f"the pack brought only {sorted(ours)}")
    config.stash[OURS] = len(ours)


def pytest_report_header(config):
    return f"MemSweep: {config.stash.get(OURS, 'not')} {'nodes imported' if OURS in config.stash else 'imported'}"


OURS = pytest.StashKey[int]()
