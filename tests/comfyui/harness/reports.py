"""Reads the report that a node left in its output, as docs/report-format.md says."""

import base64
import json
import zlib


def unpacked(shown: dict) -> dict | None:
    """None where the sweep stopped without a report."""
    if shown["report"] is None:
        return None
    return json.loads(zlib.decompress(base64.b64decode(shown["report"])))


def notes(report: dict) -> list[str]:
    """What the report wants people to know, in words."""
    return [note["reason"] for note in report["notes"]]
