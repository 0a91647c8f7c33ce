"""Builds the stand-ins for drivers, and runs Python beside them."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "stand_ins"
COMPILER = shutil.which("cc")
# They are built as Linux drivers are.
POSSIBLE = COMPILER is not None and sys.platform.startswith("linux")
WHY_NOT = "the stand-ins need Linux and a C compiler"


def build(source: str, library: str, folder: Path, *options: str) -> Path:
    """Builds `source` as the shared library of that name in a folder."""
    built = folder / library
    command = [COMPILER, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *options]
    subprocess.run(
        [*command, f"-Wl,-soname,{library}", "-o", built, SOURCES / source], check=True, timeout=120
    )
    return built


def run(script: str, folder: Path | None = None, before=(), **variables: object):
    """What a script prints, as JSON. `folder` holds stand-ins that are found by name; `before`
    is put in front of the command."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    if folder is not None:
        environment["LD_LIBRARY_PATH"] = str(folder)
    done = subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=120, env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
