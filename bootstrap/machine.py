"""What this machine is: one frozen description, put together from the probes. Measures no network, changes nothing."""

from __future__ import annotations

import os
import platform
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from bootstrap import disks, gpus, pip_settings, tools
from bootstrap.disks import Disk
from bootstrap.gpus import Gpu, Gpus
from bootstrap.pip_settings import PipSettings
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


def detect() -> Machine:
    """Probe this machine; at most a few seconds, the slow probes side by side."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        graphics, found_disks, found_tools = (
            pool.submit(gpus.detect),
            pool.submit(disks.detect),
            pool.submit(tools.detect),
        )
        memory = psutil.virtual_memory()
        return Machine(
            system=platform.system(),
            release=_release(),
            arch=platform.machine(),
            container=_container(),
            python=platform.python_version(),
            python_path=sys.executable,
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory=memory.total,
            memory_free=memory.available,
            graphics=graphics.result(),
            disks=found_disks.result(),
            tools=found_tools.result(),
            proxies=_proxies(),
            pip=pip_settings.read(),
        )


def _release() -> str:
    if platform.system() == "Linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", platform.release())
        except OSError:
            return platform.release()
    return f"{platform.system()} {platform.mac_ver()[0] or platform.release()}"


def _container() -> str | None:
    if "microsoft" in platform.release().lower():
        return "WSL"
    if Path("/.dockerenv").exists():
        return "Docker"
    if Path("/run/.containerenv").exists():
        return "Podman"
    return "Kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else None


def _cpu() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or platform.machine()


def _proxies() -> tuple[tuple[str, str], ...]:
    values = ((name, os.environ.get(name) or os.environ.get(name.upper())) for name in _PROXY_NAMES)
    return tuple((name, urls.redact(value)) for name, value in values if value)
