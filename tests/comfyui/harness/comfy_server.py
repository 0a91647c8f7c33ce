"""Starts a real ComfyUI server in a folder of its own, and talks to it over HTTP.

The server always ends with the `with` block, even when the test fails.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path

from harness.paths import EXAMPLE_CHECKPOINT, PROBE_PACK, REPOSITORY, checkpoints, comfyui_tree
from harness.reports import unpacked

START_LIMIT_S = 240
PROMPT_LIMIT_S = 300

CACHE_FLAGS = {
    "default": [],
    "classic": ["--cache-classic"],
    "lru": ["--cache-lru", "100"],
    "none": ["--cache-none"],
}

# On a CPU the text encoder keeps 16-bit weights and casts them on every call, which costs seconds on
# a busy machine. Images differ with and without this: the oracle must have it too.
FAST_FLAGS = ["--fp32-text-enc"]


class ServerFailed(RuntimeError):
    """The server ended, or did not answer in time; carries the end of its log."""


class ComfyServer:
    """One server process. `with_pack=False` leaves MemSweep out: the oracle's server."""

    def __init__(self, cache: str = "default", with_pack: bool = True, flags: list[str] | None = None):
        self.cache = cache
        self.with_pack = with_pack
        self.flags = CACHE_FLAGS[cache] + (flags or [])
        self.environment = dict(os.environ)
        self.process: subprocess.Popen | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="memsweep-comfyui-")
        self.base = Path(self._folder.name)
        self.log_path = self.base / "server.log"
        self.port = free_port()

    def __enter__(self) -> "ComfyServer":
        try:
            self._lay_out()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        self.stop()

    def _lay_out(self) -> None:
        for folder in ("custom_nodes", "models/checkpoints", "input", "output", "user", "temp"):
            (self.base / folder).mkdir(parents=True)
        (self.base / "custom_nodes" / "test_probe").symlink_to(PROBE_PACK)
        if self.with_pack:
            (self.base / "custom_nodes" / "memsweep").symlink_to(REPOSITORY)
        for file in checkpoints().glob("*.safetensors"):
            (self.base / "models" / "checkpoints" / file.name).symlink_to(file)
        (self.base / "models" / "checkpoints" / EXAMPLE_CHECKPOINT).symlink_to(checkpoints() / "small.safetensors")
        # LoadImage's input: the same pixels on every machine.
        from PIL import Image

        pixels = bytes((x * 7 + y * 13 + c * 29) % 256 for y in range(96) for x in range(96) for c in range(3))
        Image.frombytes("RGB", (96, 96), pixels).save(self.base / "input" / "example.png")

    def _start(self) -> None:
        command = [
            sys.executable, str(comfyui_tree() / "main.py"), "--cpu", "--listen", "127.0.0.1",
            "--port", str(self.port), "--base-directory", str(self.base),
            "--database-url", "sqlite:///:memory:", "--disable-api-nodes", *self.flags,
        ]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.base, env=self.environment)
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(f"the server ended with {self.process.returncode}\n{self.log_tail()}")
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                self.get("/queue")
                return
            time.sleep(0.25)
        raise ServerFailed(f"the server did not answer in {START_LIMIT_S} s\n{self.log_tail()}")

    def stop(self) -> None:
        """Ends the server and removes its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        self._folder.cleanup()

    def log_tail(self, lines: int = 40) -> str:
        with suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    # -- HTTP

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def post(self, path: str, body: dict | None = None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise ServerFailed(f"POST {path}: {error.code} {error.read().decode(errors='replace')[:2000]}") from error

    def queue(self, prompt: dict) -> str:
        """Queues a prompt and returns its id at once."""
        return self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})["prompt_id"]

    def wait(self, prompt_id: str) -> "PromptResult":
        """Waits until a queued prompt is in the history."""
        deadline = time.monotonic() + PROMPT_LIMIT_S
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return PromptResult(prompt_id, entry)
            if self.process is None or self.process.poll() is not None:
                raise ServerFailed(f"the server ended during a prompt\n{self.log_tail()}")
            time.sleep(0.02)
        raise ServerFailed(f"prompt {prompt_id} took longer than {PROMPT_LIMIT_S} s\n{self.log_tail()}")

    def run(self, prompt: dict) -> "PromptResult":
        return self.wait(self.queue(prompt))

    def free(self) -> None:
        """ComfyUI's own POST /free, waited for: it is served between prompts."""
        before = self.get("/probe/resets")["resets"]
        deadline = time.monotonic() + 60
        asked = 0.0
        while time.monotonic() < deadline:
            # Asked again each second: ComfyUI's worker misses the wake-up when it is
            # between reading the flags and waiting for the next prompt.
            if time.monotonic() - asked > 1.0:
                asked = time.monotonic()
                self.post("/free", {"unload_models": True, "free_memory": True})
            time.sleep(0.02)
            if self.get("/probe/resets")["resets"] > before:
                return
        raise ServerFailed("POST /free was not served in 60 s")

    def resident_bytes(self) -> int:
        """VmRSS of the server process."""
        return status_bytes("VmRSS", self.process.pid)


class PromptResult:
    """What the history says about one prompt."""

    def __init__(self, prompt_id: str, entry: dict):
        self.prompt_id = prompt_id
        self.outputs: dict = entry["outputs"]
        self.ok: bool = entry["status"]["status_str"] == "success"
        self.messages: list = entry["status"]["messages"]

    @property
    def error(self) -> str:
        """Node, exception and message of a failed prompt; empty when it succeeded."""
        for kind, data in self.messages:
            if kind in ("execution_error", "execution_interrupted"):
                return f"{kind}: {data.get('node_type')}: {data.get('exception_type')}: {data.get('exception_message')}"
        return ""

    @property
    def cached(self) -> set[str]:
        """Nodes whose output was in the cache when the prompt began."""
        return {node for kind, data in self.messages if kind == "execution_cached" for node in data["nodes"]}

    @property
    def image_hashes(self) -> list[str]:
        """SHA-256 of each float tensor that entered a SaveImage node, by node id."""
        return [h for node in sorted(self.outputs) for h in self.outputs[node].get("probe_sha256", [])]

    def reports(self) -> dict[str, dict]:
        """Report JSON by node id."""
        return {n: unpacked(o["memsweep"][0]) for n, o in self.outputs.items() if "memsweep" in o}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status_bytes(field: str, pid: int | str = "self") -> int:
    """One field of /proc/PID/status, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise KeyError(f"no {field} in /proc/{pid}/status")
