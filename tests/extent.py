"""How much the tests do: `cargo xtask test`, `cargo xtask test --all`, `cargo xtask test --large`.

A run of pytest by hand does what `--all` does.
"""

import os

import pytest

EXTENT = os.environ.get("MEMSWEEP_EXTENT") or "all"
if EXTENT not in ("quick", "all", "large"):
    raise ValueError(f"MEMSWEEP_EXTENT is {EXTENT!r}: quick, all and large are known")
QUICK, LARGE = EXTENT == "quick", EXTENT == "large"
# For a test that takes long.
thorough = pytest.mark.skipif(QUICK, reason="takes longer than a quick run has")


def scaled(quick, usual, large):
    """The number of turns of something that could go on for hours."""
    return {"quick": quick, "all": usual, "large": large}[EXTENT]


def first(count, modes):
    """All of these modes; the first few in a quick run."""
    return tuple(modes)[:count] if QUICK else tuple(modes)
