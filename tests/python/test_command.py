"""The `memsweep` command of the wheel."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import memsweep


def run(*arguments, program=None):
    program = program or [sys.executable, "-m", "memsweep"]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=300)


def test_the_selftest_passes_inside_the_interpreter():
    done = run("selftest", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert told["passed"] is True
    assert told["version"] == memsweep.__version__
    assert [trial["name"] for trial in told["trials"]][:4] == ["reading", "heap", "file cache", "park"]
    if sys.platform == "linux":
        assert {trial["finding"] for trial in told["trials"]} == {"works"}, told


def test_the_console_script_is_the_same_command():
    script = Path(sysconfig.get_path("scripts")) / ("memsweep.exe" if os.name == "nt" else "memsweep")
    done = run("reading", "--json", program=[script])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["process"]["resident"] > 2**20
    assert run("reading", program=[script]).stdout.startswith("process: ")


def test_a_wrong_call_says_what_there_is():
    done = run("no-such-thing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-thing" in done.stderr and "--help" in done.stderr
    assert "selftest" in run("--help").stdout
