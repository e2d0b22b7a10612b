"""Environments that nothing was installed into: a record, an interpreter, a few packages' records."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def environment(home: Path, name: str, *, complete: bool = True, made: str = "2026-01-02T03:04:05+00:00") -> Path:
    """One with two packages and 100 kB of its own; its interpreter runs."""
    path = home / "envs" / name
    packages = path / "lib" / "python3.11" / "site-packages"
    for project in ("one", "two"):
        (packages / f"{project}-1.0.dist-info").mkdir(parents=True)
    (path / "bin").mkdir()
    (path / "bin" / "python").symlink_to(sys.executable)
    (path / "blob").write_bytes(bytes(100_000))
    if complete:
        record: dict[str, object] = {"build": "cpu", "python": "3.11", "lock_sha256": "0" * 64, "lock": "cpu.txt"}
        record |= {"backend": "uv", "made": made, "verified": made, "packages": 2, "size": 100_000}
        (path / "generation.json").write_text(json.dumps(record), encoding="utf-8")
    return path
