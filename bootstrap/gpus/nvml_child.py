"""Asks NVML everything and prints one JSON document. Run as a process of its own: a call may hang in the kernel.

Whoever waits for it gives it up after some seconds. It knows nothing of this project, so that it starts at once; what
a board does not tell is null.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pynvml as nvml


def main() -> None:
    """Print what NVML says, or the error that it begins with."""
    try:
        nvml.nvmlInit()
        found = _everything()
    except nvml.NVMLError as error:
        found = {"error": str(error), "code": int(error.value)}
    json.dump(found, sys.stdout)


def _everything() -> dict[str, Any]:
    return {
        "driver": _text(nvml.nvmlSystemGetDriverVersion()),
        "cuda": _ask(nvml.nvmlSystemGetCudaDriverVersion_v2),
        "gpus": [_gpu(index) for index in range(nvml.nvmlDeviceGetCount())],
    }


def _gpu(index: int) -> dict[str, Any]:
    handle = _ask(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return {"index": index, "lost": True}
    mode = _ask(nvml.nvmlDeviceGetMigMode, handle)
    mig = bool(mode and mode[0])
    pci = _ask(nvml.nvmlDeviceGetPciInfo, handle)
    return {
        "index": index,
        "name": _text(_ask(nvml.nvmlDeviceGetName, handle)),
        "uuid": _text(_ask(nvml.nvmlDeviceGetUUID, handle)),
        "bus": _text(pci.busId) if pci else None,
        "capability": _ask(nvml.nvmlDeviceGetCudaComputeCapability, handle),
        "mig": mig,
        "instances": _instances(handle) if mig else [],
        "processes": _processes(handle),
        **_memory(handle),
    }


def _memory(handle: object) -> dict[str, int | None]:
    memory = _ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    return {"memory": int(memory.total), "free": int(memory.free)} if memory else {"memory": None, "free": None}


def _instances(handle: object) -> list[dict[str, Any]]:
    handles = (
        _ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, i)
        for i in range(_ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0)
    )
    return [
        {
            "name": _text(_ask(nvml.nvmlDeviceGetName, part)),
            "uuid": _text(_ask(nvml.nvmlDeviceGetUUID, part)),
            **_memory(part),
        }
        for part in handles
        if part is not None
    ]


def _processes(handle: object) -> list[dict[str, Any]]:
    rows = [*_running("Compute", handle), *_running("Graphics", handle)]
    by_pid = {int(row.pid): row for row in rows}
    return [
        {"pid": pid, "name": _text(_ask(nvml.nvmlSystemGetProcessName, pid)), "memory": row.usedGpuMemory}
        for pid, row in by_pid.items()
    ]


def _running(kind: str, handle: object) -> Sequence[Any]:
    """The rows of the newest version that this driver has; the one without a version refuses older drivers."""
    for version in ("_v3", "_v2"):
        rows = _ask(getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses{version}"), handle)
        if rows is not None:
            return list(rows)
    return ()


def _ask(function: Callable[..., Any], *arguments: object) -> Any:
    """The answer, or None where this board, this driver or our rights do not give one."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
