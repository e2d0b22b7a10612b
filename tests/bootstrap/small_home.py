"""A home whose environment is the one that the tests run in: a real server starts from it without an installation."""

from __future__ import annotations

import json
import sys
import sysconfig
from dataclasses import asdict
from pathlib import Path

from bootstrap import generations, weights
from bootstrap.generations import Generation
from bootstrap.state import Home
from runtime.models import model
from tests.conftest import ROOT


def make(directory: Path) -> Home:
    """The home, with the demo model."""
    home = Home(directory, directory / "cache", directory / "state", directory / "config")
    path = home.environments / "cpu-py3-here"
    (path / "bin").mkdir(parents=True)
    python = path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (path / "app").mkdir()
    (path / "app" / "runtime").symlink_to(ROOT / "runtime", target_is_directory=True)
    (path / "lib").symlink_to(Path(sysconfig.get_path("purelib")).parents[1], target_is_directory=True)
    here = Generation(path, "cpu", ".".join(map(str, sys.version_info[:2])), "0" * 64)
    (path / generations.RECORD).write_text(json.dumps({**asdict(here), "path": str(path)}))
    home.current.symlink_to(path, target_is_directory=True)
    demo = model("demo")
    bundled = demo.bundled
    assert bundled is not None
    home.models.mkdir(parents=True)
    weights.directory(home, demo).symlink_to(bundled, target_is_directory=True)
    return home
