"""Which tools a machine has that an installation can use. A missing tool is a fact, not an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uv

from bootstrap import spawn

PATIENCE = 5.0  # seconds; conda takes up to 2 to say its version
_PLAIN = ("conda", "mamba", "micromamba", "ffmpeg", "podman")
_VERSION_OPTION = {"ffmpeg": "-version"}


@dataclass(frozen=True)
class Tool:
    """A program: where it lies, what it says of its version, and what else is worth knowing."""

    name: str
    path: str | None
    version: str | None = None
    note: str = ""

    @property
    def found(self) -> bool:
        """Whether it can be used."""
        return self.path is not None


def detect(patience: float = PATIENCE) -> tuple[Tool, ...]:
    """uv, the container tools, and the conda family, asked side by side; each is given up after `patience` seconds."""
    probes: list[Callable[[float], Tool]] = [_uv, _docker, _buildx, _nvidia_runtime]
    probes += [partial(_plain, name) for name in _PLAIN]
    with ThreadPoolExecutor(len(probes)) as pool:  # a docker whose engine hangs holds nobody else up
        return tuple(pool.map(lambda probe: probe(patience), probes))


def _uv(patience: float) -> Tool:
    path = Path(uv.find_uv_bin())
    return Tool("uv", str(path), _first_line(spawn.probe([str(path), "--version"], patience)), "comes with i2v-setup")


def _plain(name: str, patience: float) -> Tool:
    path = shutil.which(name)
    if path is None:
        return Tool(name, None)
    return Tool(name, path, _first_line(spawn.probe([path, _VERSION_OPTION.get(name, "--version")], patience)))


def _docker(patience: float) -> Tool:
    path = shutil.which("docker")
    if path is None:
        return Tool("docker", None)
    engine = _first_line(spawn.probe([path, "version", "--format", "{{.Server.Version}}"], patience))
    return Tool("docker", path, engine, "engine answers" if engine else "the client is there, no engine answers")


def _buildx(patience: float) -> Tool:
    docker = shutil.which("docker")
    version = _first_line(spawn.probe([docker, "buildx", "version"], patience)) if docker else None
    return Tool("docker buildx", docker if version else None, version)


def _nvidia_runtime(patience: float) -> Tool:
    docker = shutil.which("docker")
    runtimes = spawn.probe([docker, "info", "--format", "{{json .Runtimes}}"], patience) if docker else None
    try:
        known = json.loads(runtimes) if runtimes else {}
    except ValueError:
        known = {}
    path = shutil.which("nvidia-container-runtime") or shutil.which("nvidia-ctk")
    note = "registered with Docker" if "nvidia" in known else "not registered with Docker" if path else ""
    return Tool("nvidia container runtime", path, None, note)


def _first_line(text: str | None) -> str | None:
    return text.strip().splitlines()[0].partition(" Copyright")[0] if text and text.strip() else None
