"""The device that a model runs on: which one, how much memory there is for us, and how much a call took.

With `runtime.loading` and `runtime.pipeline` one of the three modules that touch torch. Knows nothing of models.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from runtime.memory import Room

_STATUS = Path("/proc/self/status")
_PEAK_RESET = "5"  # what makes the kernel count the largest resident size anew
#: Where a container's limit and its use stand, and what of the use the kernel would give back, as files that were read
#: and are not looked at any more: cgroup 2, then 1.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def choose_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"


def room(device: torch.device) -> Room:
    """The memory that this process may use in all: what is free, and what it holds already."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Room("cuda", total, free + torch.cuda.memory_reserved(device), device_name(device))
    facts = _kilobytes(Path("/proc/meminfo"))
    total, available = facts.get("MemTotal", 0), facts.get("MemAvailable", 0)
    for cgroup, limit, used, reclaimable in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
            most = int((cgroup / limit).read_text(encoding="ascii"))
            in_use = int((cgroup / used).read_text(encoding="ascii")) - _line(cgroup / "memory.stat", reclaimable)
            total, available = min(total, most), min(available, most - in_use)
    return Room("cpu", total, available + _kilobytes(_STATUS).get("RssAnon", 0), device_name(device))


@dataclass
class Peak:
    """The most bytes that a call held beside what was there before it; 0: cannot be told."""

    bytes: int = 0


@contextlib.contextmanager
def measured_peak(device: torch.device, at_rest: int) -> Iterator[Peak]:
    """Measures what is done inside: exactly on a GPU, by the resident size of the process on a CPU.

    There, what an earlier call has let go of stays with the process for the next one, which took it all the same: it
    is `at_rest` that counts, the `resident_size` before the first call.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    counted = at_rest and _reset_resident_peak()
    try:
        yield peak
    finally:
        peak.bytes = max(0, _kilobytes(_STATUS).get("VmHWM", 0) - at_rest) if counted else 0


def resident_size() -> int:
    """The bytes of main memory that this process has now; 0 where that cannot be told."""
    return _kilobytes(_STATUS).get("VmRSS", 0)


def release(device: torch.device) -> None:
    """Gives back what the allocator holds and nothing uses: after running out of memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _reset_resident_peak() -> bool:
    """Has the kernel count anew; False where it does not."""
    try:
        with os.fdopen(os.open("/proc/self/clear_refs", os.O_WRONLY), "w") as file:
            file.write(_PEAK_RESET)
    except OSError:
        return False
    return True


def _line(path: Path, name: str) -> int:
    """The number of the line `NAME 123` of a file; 0 where there is none."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return next((int(line[1]) for line in lines if line[0] == name), 0)


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines `Name:   123 kB` of a file of /proc, in bytes; nothing where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value[:-3]) * 1024
    return found
