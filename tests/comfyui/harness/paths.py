"""Where the prepared ComfyUI, the checkpoints and this checkout are."""

import os
from pathlib import Path

COMFYUI_VERSION = "0.30.0"

REPOSITORY = Path(__file__).resolve().parents[3]
PROBE_PACK = REPOSITORY / "tests" / "comfyui" / "packs" / "test_probe"

# The checkpoint that our example workflows name: the small one lies there under that name too.
EXAMPLE_CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"


def cache_folder() -> Path:
    """The folder `cargo xtask setup` fills."""
    return Path(os.environ.get("MEMSWEEP_CACHE") or Path.home() / ".cache" / "memsweep")


def comfyui_tree() -> Path:
    """The ComfyUI tree under test."""
    return Path(os.environ.get("MEMSWEEP_COMFYUI") or cache_folder() / "comfyui" / COMFYUI_VERSION)


def checkpoints() -> Path:
    """The folder with small.safetensors and full.safetensors."""
    return Path(os.environ.get("MEMSWEEP_CHECKPOINTS") or cache_folder() / "checkpoints")


def comfy_cli() -> Path:
    """The registry's own command, which makes its archives."""
    return Path(os.environ.get("MEMSWEEP_COMFY_CLI") or cache_folder() / "comfy-cli" / "bin" / "comfy")
