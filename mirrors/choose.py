"""Which mirror to take, from what was measured. Pure arithmetic; asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirrors.catalogue import Mirror
from mirrors.errors import NoMirror
from mirrors.probe import Measurement


@dataclass(frozen=True)
class Choice:
    """A mirror, and why this one: a sentence for people. `measurements` are those that it was chosen from."""

    mirror: Mirror
    reason: str
    measurements: tuple[Measurement, ...]


def choose(measurements: Sequence[Measurement], wanted_bytes: int) -> Choice:
    """The mirror that is predicted to give `wanted_bytes` bytes the soonest; of equal ones the first.

    Raises:
        NoMirror: none is usable; says why for each.
    """
    good = sorted(
        (found for found in measurements if found.verdict == "good"), key=lambda it: predicted(it, wanted_bytes)
    )
    if not good:
        reasons = "; ".join(f"{found.mirror.name} {found.reason}" for found in measurements)
        raise NoMirror(
            f"no mirror is usable: {reasons or 'there is no candidate'}",
            "check the network and the proxy settings, or name an index of your own by its URL",
        )
    best, *others = good
    words = [_told(best, wanted_bytes)] + ([f"next best: {_told(others[0], wanted_bytes)}"] if others else [])
    return Choice(best.mirror, "; ".join(words), tuple(measurements))


def predicted(found: Measurement, wanted_bytes: int) -> float:
    """Seconds until that many bytes are here, at the rate that was measured; without a rate, the latency alone."""
    return (found.latency or 0.0) + (wanted_bytes / found.rate if found.rate else 0.0)


def _told(found: Measurement, wanted_bytes: int) -> str:
    if found.rate is None:
        return f"{found.mirror.name} {found.reason}"
    seconds = predicted(found, wanted_bytes)
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{found.mirror.name}: {wanted_bytes / 1e6:.0f} MB in about {time} ({found.rate / 1e6:.1f} MB/s)"
