"""As in many containers: from here on this process and its children may not use `userfaultfd`."""

import ctypes
import os
import platform

NUMBERS = {"x86_64": (323, 0xC000003E), "aarch64": (282, 0xC00000B7)}


def forbid() -> None:
    number, architecture = NUMBERS[platform.machine()]
    errno_eperm, allow, load, equal, answer = 0x00050001, 0x7FFF0000, 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, 4),
        (equal, 0, 2, architecture),
        (load, 0, 0, 0),
        (equal, 1, 0, number),
        (answer, 0, 0, allow),
        (answer, 0, 0, errno_eperm),
    ]

    class Step(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("if_true", ctypes.c_uint8), ("if_false", ctypes.c_uint8),
                    ("value", ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(Step))]

    steps = (Step * len(program))(*(Step(*step) for step in program))
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong] * 2
    libc.prctl.argtypes = [ctypes.c_int, *arguments, ctypes.c_ulong, ctypes.c_ulong]
    no_new_privileges, set_seccomp, filtered = 38, 22, 2
    for call in (
        (no_new_privileges, 1, 0, 0, 0),
        (set_seccomp, filtered, ctypes.addressof(Program(len(program), steps)), 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "no filter for system calls can be set")
    if libc.syscall(number, os.O_CLOEXEC) >= 0 or ctypes.get_errno() != 1:
        raise OSError("the filter does not work")
