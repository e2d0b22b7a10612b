"""Small text files of the system: those in /proc, /sys and /etc. One that cannot be read is as good as empty."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str:
    """What is in it; empty where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
