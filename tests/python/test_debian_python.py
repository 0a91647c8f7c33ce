"""Debian's own Python is linked to a fixed address; its C heap is glibc's all the same."""

import os
import pathlib
import struct
import subprocess
import sys

import memsweep
import pytest

PYTHON = pathlib.Path("/usr/bin/python3")

PROGRAM = """
import memsweep
held = [bytearray(b"x" * (3 << 20)) for _ in range(4)]
outcome = memsweep.park([held], parking={"folder": "/var/tmp"}).to_dict()["rows"][0]["outcome"]
assert outcome["kind"] == "parked", outcome
assert outcome["bytes"] + outcome["already"] > 11 << 20, outcome
assert all(one == b"x" * (3 << 20) for one in held)
slack = memsweep.reading().to_dict()["process"]["heap_slack"]
assert slack is not None
"""


def fixed():
    """Whether that program is linked to a fixed address (ELF's type EXEC, not DYN)."""
    with open(PYTHON, "rb") as file:
        head = file.read(18)
    return struct.unpack("<H", head[16:18])[0] == 2


def run(program, **environment):
    package = pathlib.Path(memsweep.__file__).parent.parent
    return subprocess.run(
        [PYTHON, "-c", program],
        env={"PYTHONPATH": str(package), "PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def served():
    """Whether the wheel can be imported there at all."""
    code = "import sys; print(sys.version_info >= (3, 10))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip() == "True"


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park"),
    pytest.mark.skipif(not PYTHON.exists(), reason="/usr/bin/python3 is not installed"),
    pytest.mark.skipif(PYTHON.exists() and not served(), reason="/usr/bin/python3 is older than 3.10"),
]


@pytest.mark.skipif(PYTHON.exists() and not fixed(), reason="linked with PIE here")
def test_a_python_at_a_fixed_address_parks_and_reports_its_slack():
    done = run(PROGRAM)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", ["jemalloc.so.2", "mimalloc.so.2", "tcmalloc_minimal.so.4"])
def test_a_preloaded_allocator_is_still_recognised_there(library):
    (found, *_) = [*pathlib.Path("/usr/lib").glob(f"*-linux-gnu/lib{library}"), None]
    if found is None:
        pytest.skip(f"lib{library} is not installed")
    program = PROGRAM.split("held =")[0] + (
        "print(memsweep.park([bytearray(3 << 20)], parking={'folder': '/var/tmp'}))\n"
        "print(memsweep.reading().to_dict()['process'].get('heap_slack'))\n"
    )
    done = run(program, LD_PRELOAD=str(found))
    assert done.returncode == 0, done.stderr
    name = library.split(".")[0].split("_")[0]
    assert f"memory of {name} cannot be parked" in done.stdout, done.stdout
    assert done.stdout.rstrip().endswith("None")
