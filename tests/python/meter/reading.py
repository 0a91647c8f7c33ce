"""The kernel writes: reads into memory that Python gave it."""

from __future__ import annotations

import io
import os
import random
import socket
import tempfile
import threading

from meter.native import PAGE, address, native
from meter.rounds import HELD, Kind, thread

BYTES = 2 * 2**20
CHUNK = BYTES // 8


class Fed(Kind):
    """A pipe or socket that another thread feeds slowly, with other bytes in each call."""

    def __init__(self) -> None:
        HELD["buffer"] = bytearray(b"m") * BYTES
        native.watch(address(HELD["buffer"]), BYTES)
        self.calls = 0
        self.data = b""

    def start(self) -> object:
        self.calls += 1
        self.data = random.Random(self.calls).randbytes(BYTES)
        self.read_from, self.write_to = self.open()
        self.feeder = threading.Thread(
            target=native.feed, args=(self.write_to.fileno(), self.data, BYTES, CHUNK)
        )
        self.feeder.start()
        return thread(self.run)

    def open(self) -> tuple:
        read, write = os.pipe()
        return open(read, "rb"), open(write, "wb", buffering=0)

    def run(self) -> None:
        native.enter()
        self.read()
        native.leave()

    def read(self) -> None:
        """Reads all that comes, in one call."""
        raise NotImplementedError

    def content(self) -> bytes:
        return bytes(HELD["buffer"])

    def lost(self) -> int:
        self.feeder.join()
        self.read_from.close()
        self.write_to.close()
        content = self.content()
        pages = range(0, BYTES, PAGE)
        return sum(content[at : at + PAGE] != self.data[at : at + PAGE] for at in pages)


class ReadInto(Fed):
    """`readinto` fills the whole buffer, by one read of the pipe after the other."""

    def read(self) -> None:
        self.read_from.readinto(HELD["buffer"])


class ReceiveInto(Fed):
    def open(self) -> tuple:
        return socket.socketpair()

    def read(self) -> None:
        self.read_from.recv_into(HELD["buffer"], BYTES, socket.MSG_WAITALL)


class BytesIOBuffer(ReceiveInto):
    """Before Python 3.12 a `BytesIO` does not show its bytes, so that nothing moves them."""

    def __init__(self) -> None:
        HELD["buffer"] = io.BytesIO()
        HELD["buffer"].write(b"m" * BYTES)
        with HELD["buffer"].getbuffer() as view:
            native.watch(address(view), BYTES)
        self.calls = 0
        self.data = b""

    def read(self) -> None:
        self.read_from.recv_into(HELD["buffer"].getbuffer(), BYTES, socket.MSG_WAITALL)

    def content(self) -> bytes:
        return HELD["buffer"].getvalue()


class Direct(Kind):
    """A read past the page cache: the disk itself writes into the memory, and no processor.

    One call reads the same bytes into the same memory many times over, and then other bytes into
    its last page.
    """

    times, most = 16, 64

    def __init__(self) -> None:
        HELD["buffer"] = bytearray(b"m") * (BYTES + PAGE)
        start = address(HELD["buffer"])
        native.watch(start, len(HELD["buffer"]))
        self.offset = -start % PAGE
        self.folder = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.path = os.path.join(self.folder.name, "file")
        self.body = random.Random(0).randbytes(BYTES - PAGE)
        self.calls = self.written = 0

    def start(self) -> object:
        self.calls += 1
        self.last = random.Random(self.calls).randbytes(PAGE)
        if self.written != self.times:
            with open(self.path, "wb") as file:
                file.write(self.body * self.times)
            self.written = self.times
        with open(self.path, "r+b") as file:
            file.seek(len(self.body) * self.times)
            file.write(self.last)
            os.fsync(file.fileno())
        return thread(self.run, self.times)

    def run(self, times: int) -> None:
        view = memoryview(HELD["buffer"])[self.offset : self.offset + BYTES]
        into = [view[: BYTES - PAGE]] * times + [view[BYTES - PAGE :]]
        file = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
        native.enter()
        done = os.preadv(file, into, 0)
        native.leave()
        os.close(file)
        if done != len(self.body) * times + PAGE:
            raise OSError(f"read {done} bytes")

    def lost(self) -> int:
        content = HELD["buffer"][self.offset : self.offset + BYTES]
        expected = self.body + self.last
        pages = range(0, BYTES, PAGE)
        return sum(content[at : at + PAGE] != expected[at : at + PAGE] for at in pages)

    def close(self) -> None:
        self.folder.cleanup()


KINDS = {
    "readinto": ReadInto,
    "recv_into": ReceiveInto,
    "recv_into of a BytesIO buffer": BytesIOBuffer,
    "O_DIRECT": Direct,
}
