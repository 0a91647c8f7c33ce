"""What the user chose in ComfyUI's own settings, as its page saves them."""

from __future__ import annotations

import json
import os
from typing import Any


def chosen(key: str) -> Any:
    """A setting's value; `None` where it was never changed, or where each user has settings of their own."""
    import folder_paths
    from comfy.cli_args import args

    if getattr(args, "multi_user", False):
        return None
    path = os.path.join(folder_paths.get_user_directory(), "default", "comfy.settings.json")
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    except FileNotFoundError:
        return None
    return settings.get(key) if isinstance(settings, dict) else None
