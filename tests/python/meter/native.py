"""Our C code: how it is built and loaded, and what it counts."""

import ctypes
import os
import shutil
import subprocess

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "meter.c")
VARIABLE = "MEMSWEEP_METER"
PAGE = 4096


def missing() -> str | None:
    """Why it cannot be built here."""
    return None if shutil.which("cc") else "there is no C compiler `cc`"


def build(folder: str) -> str:
    path = os.path.join(folder, "libmeter.so")
    flags = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-fPIC", "-shared"]
    subprocess.run(["cc", *flags, SOURCE, "-o", path, "-ldl", "-lpthread"], check=True)
    return path


def environment(library: str) -> dict[str, str]:
    """For a process that measures: our library ahead of the C library, and each large block mapped separately."""
    return {
        **os.environ,
        "LD_PRELOAD": library,
        VARIABLE: library,
        "MALLOC_MMAP_THRESHOLD_": str(512 * 1024),
    }


class Native:
    """`meter.c` in a process that was started with it."""

    def __init__(self) -> None:
        path = os.environ[VARIABLE]
        # Calls through the first give up the interpreter lock, through the second they do not.
        self.free, self.locked = ctypes.CDLL(path), ctypes.PyDLL(path)
        self.write = self.free.meter_write
        self.write.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self.write.restype = None
        self.write_for = self.free.meter_write_for
        self.write_for.argtypes = [ctypes.py_object, *self.write.argtypes]
        self.write_for.restype = None
        self.feed = self.free.meter_feed
        self.feed.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t]
        self.locked.meter_watch.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        self.watch, self.forget = self.locked.meter_watch, self.locked.meter_forget
        self.enter, self.leave = self.locked.meter_enter, self.locked.meter_leave
        self.inside, self.enough = self.locked.meter_inside, self.locked.meter_enough
        self.quiet = self.locked.meter_quiet
        self.quiet.argtypes = [ctypes.c_long]
        for name in ("others_moved", "own_compared", "came_late"):
            counter = getattr(self.locked, f"meter_{name}")
            counter.restype = ctypes.c_ulong
            setattr(self, name, counter)


native = Native() if os.environ.get(VARIABLE) else None


def address(buffer: object) -> int:
    """Where a writable buffer lies. Nothing keeps it exported."""
    return ctypes.addressof((ctypes.c_char * 1).from_buffer(buffer))
