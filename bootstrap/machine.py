"""What this machine is: one frozen description, put together from the probes. Measures no network, changes nothing."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from bootstrap import containers, disks, gpus, pip_settings, tools
from bootstrap.disks import Disk, Usage
from bootstrap.gpus import Gpu, Gpus
from bootstrap.pip_settings import PipSettings
from bootstrap.small_files import text
from bootstrap.tools import Tool
from mirrors import urls

_PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class Machine:
    """A machine as an installation sees it; memory in bytes."""

    system: str
    release: str
    arch: str
    container: str | None
    python: str
    python_path: str
    cpu: str
    cores: int
    memory: int
    memory_free: int
    graphics: Gpus
    disks: tuple[Disk, ...]
    tools: tuple[Tool, ...]
    proxies: tuple[tuple[str, str], ...]
    pip: PipSettings

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs, of any vendor."""
        return self.graphics.gpus


def detect(
    root: Path = Path("/"),
    *,
    system: str | None = None,
    arch: str | None = None,
    environ: Mapping[str, str] = os.environ,
    usage: Callable[[str], Usage | None] = disks.look,
    patience: float = gpus.PATIENCE,
    with_tools: bool = True,
) -> Machine:
    """Probe this machine, the slow probes side by side: it takes as long as the slowest, at most a few seconds.

    Args:
        root: where /proc, /sys, /dev and /etc are looked for.
        system: what `platform.system()` says, by default of this machine.
        arch: what `platform.machine()` says, by default of this machine.
        environ: the environment.
        usage: how the room of a mounted directory is looked at.
        patience: seconds after which a probe of GPUs is given up.
        with_tools: look for the container tools and the conda family too, which an installation does without.
    """
    system, arch = system or platform.system(), arch or platform.machine()
    inside, wsl = containers.kind(root, environ), containers.wsl(root)
    with ThreadPoolExecutor(max_workers=3) as pool:
        graphics = pool.submit(
            gpus.detect, root, container=inside, system=system, arch=arch, environ=environ, patience=patience
        )
        found_disks = pool.submit(disks.detect, root, usage=usage)
        found_tools = pool.submit(tools.detect if with_tools else tuple[Tool, ...])
        memory = psutil.virtual_memory()
        return Machine(
            system=system,
            release=_release(root, system),
            arch=arch,
            container=", ".join(filter(None, (inside, f"WSL {wsl}" if wsl else None))) or None,
            python=platform.python_version(),
            python_path=sys.executable,
            cpu=_cpu(root),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory=memory.total,
            memory_free=memory.available,
            graphics=graphics.result(),
            disks=found_disks.result(),
            tools=found_tools.result(),
            proxies=_proxies(environ),
            pip=pip_settings.read(),
        )


def _release(root: Path, system: str) -> str:
    if system != "Linux":
        return f"{'macOS' if system == 'Darwin' else system} {platform.mac_ver()[0] or platform.release()}"
    names = (root / "etc/os-release", root / "usr/lib/os-release")
    found = (re.search(r'^PRETTY_NAME="?([^"\n]+)', text(path), re.MULTILINE) for path in names)
    return next((match[1] for match in found if match), platform.release())


def _cpu(root: Path) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", text(root / "proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def _proxies(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    values = ((name, environ.get(name) or environ.get(name.upper())) for name in _PROXY_NAMES)
    return tuple((name, urls.redact(value)) for name, value in values if value)
