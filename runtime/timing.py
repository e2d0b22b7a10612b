"""When this process began, and how a phase of work is written down. Knows nothing of what the phases are."""

import os
import time
from dataclasses import dataclass

_IMPORTED = time.monotonic()


@dataclass(frozen=True)
class Phase:
    """Something that took `seconds`, from `started` seconds after the start of the process."""

    name: str
    started: float
    seconds: float


def process_started() -> float:
    """The monotonic time at which this process was started, interpreter included."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:  # noqa: PTH123 - a kernel's answer, not a path
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # not Linux: the import of this module is the earliest that is known
        return _IMPORTED
    return time.monotonic() - age
