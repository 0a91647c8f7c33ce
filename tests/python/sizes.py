"""How much the slow tests do. `cargo xtask test --large` asks for more."""

import os

LARGE = os.environ.get("MEMSWEEP_LARGE", "") not in ("", "0")


def scaled(small, large):
    return large if LARGE else small
