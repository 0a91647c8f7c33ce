"""Parking beside a thread that writes without the interpreter lock never loses a write: one row per kind of holder.

That the meter can find a lost write is shown on a library whose check for what is in use is broken on
purpose: `cargo xtask test --suite meter`.
"""

import json
import os
import subprocess
import sys

import extent
import pytest
from meter import kinds, native

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park"),
    pytest.mark.skipif(native.missing() is not None, reason=str(native.missing())),
]
PARKS = extent.scaled(4, 10, 200)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return native.build(str(tmp_path_factory.mktemp("meter")))


@pytest.mark.parametrize("family", kinds.FAMILIES)
def test_no_kind_of_holder_loses_a_write(library, family):
    lacking = kinds.lacking(family)
    if lacking:
        pytest.skip(f"{lacking} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "meter", family, "--parks", str(PARKS)],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env=native.environment(library), capture_output=True, text=True, timeout=850, check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    refused = {row["why"] for row in rows} - {None}
    rows = [row for row in rows if row["why"] is None]
    if not rows:
        pytest.skip("; ".join(refused))
    hidden = {row["kind"] for row in rows if not row["idle_moves"]}
    assert hidden <= kinds.MAY_BE_HIDDEN
    wrong = [
        row for row in rows
        if row["kind"] not in hidden and (row["lost"] or row["counted"] < PARKS)
    ]
    assert not wrong, wrong
