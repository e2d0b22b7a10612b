"""Bytes and seconds as people read them."""

from __future__ import annotations


def size(count: float | None) -> str:
    """Bytes, in powers of 1000."""
    if count is None:
        return ""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def seconds(value: float) -> str:
    """Seconds, with as many digits as tell something."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def signed(value: float) -> str:
    """A difference of seconds; one that would not be seen has no sign."""
    told = seconds(abs(value))
    return told if told == seconds(0) else f"{'-' if value < 0 else '+'}{told}"
