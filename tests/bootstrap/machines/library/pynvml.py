"""Plays a recording in the shape of nvidia-ml-py: what NVML told on another machine.

The recording is the JSON file that RECORDED_NVML names; without one there is no libnvidia-ml, as on most machines.
"""
# ruff: noqa: N802 (its names are those of nvidia-ml-py)

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_UNIT = 2**20
_NOT_SUPPORTED, _NO_PERMISSION, _NOT_FOUND, _NO_LIBRARY, _LOST = 3, 4, 6, 12, 15
_TEXTS = {
    _NOT_SUPPORTED: "Not Supported",
    _NO_PERMISSION: "Insufficient Permissions",
    _NOT_FOUND: "Not Found",
    9: "Driver Not Loaded",
    _NO_LIBRARY: "NVML Shared Library Not Found",
    _LOST: "GPU is lost",
    18: "Driver/library version mismatch",
    999: "Unknown Error",
}
_path = os.environ.get("RECORDED_NVML")
_told: dict[str, Any] = json.loads(Path(_path).read_text(encoding="utf-8")) if _path else {"error": _NO_LIBRARY}


class NVMLError(Exception):
    """NVML's only error: a number."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return _TEXTS[self.value]


def nvmlInit() -> None:
    if _told.get("hangs"):
        time.sleep(600)
    if "error" in _told:
        raise NVMLError(_told["error"])


def nvmlSystemGetDriverVersion() -> str:
    return str(_told["driver"])


def nvmlSystemGetCudaDriverVersion_v2() -> int:
    return int(_told["cuda"])


def nvmlDeviceGetCount() -> int:
    return len(_told["devices"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    return _present(_told["devices"][index], "name", _LOST)[1]


def nvmlDeviceGetName(handle: dict[str, Any]) -> Any:
    return _present(handle, "name")[0]


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> Any:
    return _present(handle, "uuid")[0]


def nvmlDeviceGetPciInfo(handle: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(busId=_present(handle, "bus")[0].encode())


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any]) -> SimpleNamespace:
    total, free = _present(handle, "memory", _NO_PERMISSION)[0]
    return SimpleNamespace(total=total * _UNIT, free=free * _UNIT, used=(total - free) * _UNIT)


def nvmlDeviceGetCudaComputeCapability(handle: dict[str, Any]) -> Any:
    return _present(handle, "capability")[0]


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> Any:
    return _present(handle, "mig")[0]


def nvmlDeviceGetMaxMigDeviceCount(handle: dict[str, Any]) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict[str, Any], index: int) -> Any:
    if index >= len(handle.get("instances", ())):
        raise NVMLError(_NOT_FOUND)
    return handle["instances"][index]


def nvmlDeviceGetComputeRunningProcesses_v3(handle: dict[str, Any]) -> list[SimpleNamespace]:
    return _processes(handle, "compute")


def nvmlDeviceGetGraphicsRunningProcesses_v3(handle: dict[str, Any]) -> list[SimpleNamespace]:
    return _processes(handle, "graphics")


def nvmlSystemGetProcessName(pid: int) -> str:
    for device in _told["devices"]:
        for row in (*device.get("compute", ()), *device.get("graphics", ())):
            if row["pid"] == pid and "name" in row:
                return str(row["name"])
    raise NVMLError(_NOT_FOUND)


def _processes(handle: dict[str, Any], kind: str) -> list[SimpleNamespace]:
    rows = handle.get(kind, ())
    return [
        SimpleNamespace(pid=row["pid"], usedGpuMemory=row["memory"] * _UNIT if row.get("memory") else None)
        for row in rows
    ]


def _present(handle: dict[str, Any], key: str, error: int = _NOT_SUPPORTED) -> tuple[Any, dict[str, Any]]:
    """What the board tells, and the board itself."""
    if handle.get(key) is None:
        raise NVMLError(error)
    return handle[key], handle
