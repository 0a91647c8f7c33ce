"""The pack as users get it: packed by the registry's own command or cloned, and installed from there.

Both hold the last commit: what is not committed reaches no user.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from harness.comfy_server import FAST_FLAGS, ComfyServer
from harness.paths import REPOSITORY, comfy_cli

WHEELS = REPOSITORY / "target" / "wheels"

# What an interpreter without the package says. Placed in front of the environment's own copy.
HIDDEN = 'raise ModuleNotFoundError("No module named \'memsweep\'", name="memsweep")\n'


def clone(folder: Path) -> None:
    run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)])


def tracked(folder: Path) -> set[str]:
    """What git tracks in a checkout, with `/`."""
    return set(run(["git", "-C", str(folder), "ls-files", "-z"]).split("\0")) - {""}


def pack(checkout: Path) -> Path:
    """The archive that would go to the registry, left in the checkout."""
    command = comfy_cli()
    assert command.is_file(), f"{command} is missing: `cargo xtask test --suite archive` installs it"
    # A home of its own: it keeps settings there. The overlay of an older ComfyUI is not for it.
    with tempfile.TemporaryDirectory(prefix="memsweep-home-") as home:
        environment = {**os.environ, "HOME": home, "DO_NOT_TRACK": "1"}
        environment.pop("PYTHONPATH", None)
        run([str(command), "--skip-prompt", "--no-enable-telemetry", "node", "pack"], checkout, environment)
    return checkout / "node.zip"


def unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)


class InstalledServer(ComfyServer):
    """A server with the pack put among its custom nodes by `place`, with its requirements or without.

    Torch's environment has a memsweep of its own, so the one from here goes in front of it.
    """

    def __init__(self, place: Callable[[Path], None], has_wheel: bool):
        super().__init__(with_pack=False, flags=FAST_FLAGS)
        self.pack = self.base / "custom_nodes" / "memsweep"
        self.library = self.base / "library"
        self.has_wheel = has_wheel
        self._place = place

    def _lay_out(self) -> None:
        super()._lay_out()
        self._place(self.pack)
        if self.has_wheel:
            # Without --no-deps: what the requirements need beside our own wheel would fail here.
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            source = ["--no-index", "--find-links", str(WHEELS), "--target", str(self.library)]
            run([*install, *source, "--requirement", str(self.pack / "requirements.txt")])
        else:
            self.library.mkdir()
            (self.library / "memsweep.py").write_text(HIDDEN)
        before = self.environment.get("PYTHONPATH")
        self.environment["PYTHONPATH"] = os.pathsep.join([str(self.library), *([before] if before else [])])


def run(command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
