"""The first use tests the interpreter, in Python: whatever happens in the middle of it must not wait for it."""

import subprocess
import sys

import pytest


def run(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such timer")
@pytest.mark.parametrize("milliseconds", [1, 2, 4, 6, 8])
def test_a_signal_in_the_middle_may_use_it_too(milliseconds):
    assert run(f"""
import signal, memsweep
answers = []
def handler(*_):
    answers.append(memsweep.park([bytearray(2**22)]))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, {milliseconds / 1000})
answers.append(memsweep.park([bytearray(2**22)]))
while len(answers) < 2:
    pass
print("done")
""") == "done\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork")
def test_a_child_forked_in_the_middle_may_use_it_too():
    assert run("""
import os, sys, threading, time, memsweep
sys.setswitchinterval(1e-4)
thread = threading.Thread(target=memsweep.park, args=([bytearray(2**22)],))
thread.start()
time.sleep(.003)
child = os.fork()
if child == 0:
    memsweep.park([bytearray(2**22)])
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
print("done")
""") == "done\n"


@pytest.mark.parametrize("name", ["numpy", "torch", "torch._C"])
def test_a_stand_in_of_a_test_is_no_library(name):
    assert run(f"""
import sys, unittest.mock
sys.modules[{name!r}] = unittest.mock.MagicMock()
import memsweep
memsweep.park([bytearray(2**22)])
for level in ("collect", "park", "destroy"):
    memsweep.sweep(level=level)
memsweep.reading()
print("done")
""") == "done\n"
