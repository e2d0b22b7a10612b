"""What the tests of the conda back ends share: a home, and mirrors of channels that stand for all that are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from bootstrap import machine, torch_builds
from bootstrap.backends import conda
from bootstrap.state import Home
from bootstrap.torch_builds import Pick
from mirrors import catalogue
from mirrors.http import HttpSettings
from tests.mirrors.loopback import LoopbackMirror

NOBODY = "http://127.0.0.1:9"  # refuses at once
HTTP = HttpSettings(read_timeout=5.0, response_timeout=5.0)
CPU = Pick(torch_builds.find("cpu"), "a test")


def home_in(directory: Path) -> Home:
    """A home of its own."""
    return Home(directory / "data", directory / "cache", directory / "state", directory / "config")


def know(home: Home, mirrors: Mapping[str, LoopbackMirror]) -> None:
    """Let these be the mirrors of those ids, and no other answer."""
    urls = {row.id: NOBODY for row in catalogue.mirrors("conda")} | {id_: it.base for id_, it in mirrors.items()}
    rows = [
        {"id": id_, "kind": "conda", "url": url, "layout": "channels", "upstream": id_ == "upstream", "name": id_}
        for id_, url in urls.items()
    ]
    home.config.mkdir(parents=True, exist_ok=True)
    home.user_mirrors.write_text(yaml.safe_dump({"mirrors": rows}), encoding="utf-8")


def environment(directory: Path, *specs: str, channels: tuple[str, ...] = ("conda-forge",)) -> Path:
    """An environment.yml."""
    path = directory / "environment.yml"
    path.write_text(yaml.safe_dump({"channels": list(channels), "dependencies": list(specs)}), encoding="utf-8")
    return path


def locked(home: Home, wanted: conda.Wanted | Path, *, cuda: str | None = None, keep: bool = True) -> conda.Locked:
    """The lock for an environment.yml, by the built-in solver if nothing else is said."""
    if isinstance(wanted, Path):
        wanted = conda.Wanted(wanted, CPU, conda.BUILT_IN)
    here = machine.detect(with_tools=False)
    here = replace(here, graphics=replace(here.graphics, cuda=cuda))
    return conda.lock(wanted, here, HTTP, home, keep=keep)
