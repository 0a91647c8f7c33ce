"""The kernel writes: reads into memory that Python gave it."""

from __future__ import annotations

import io
import os
import random
import socket
import threading

from meter.native import PAGE, address, native
from meter.rounds import HELD, Kind, thread

BYTES = 2 * 2**20
# Less than parking compares at once: data that arrives in several parts would be noticed in the next one.
CHUNK = 64 * 1024


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
    """`readinto` fills the whole buffer, with one read of the pipe after another."""

    def read(self) -> None:
        self.read_from.readinto(HELD["buffer"])


class ReceiveInto(Fed):
    def open(self) -> tuple:
        return socket.socketpair()

    def read(self) -> None:
        self.read_from.recv_into(HELD["buffer"], BYTES, socket.MSG_WAITALL)


class BytesIOBuffer(ReceiveInto):
    """Before Python 3.12 a `BytesIO` does not show its bytes, so nothing moves them."""

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


KINDS = {
    "readinto": ReadInto,
    "recv_into": ReceiveInto,
    "recv_into of a BytesIO buffer": BytesIOBuffer,
}
