"""Which mirrors to take, from what was measured. Arithmetic, and one throw of dice; asks nobody."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mirrors.catalogue import Mirror
from mirrors.errors import NoMirror
from mirrors.probing.measurement import Measurement
from mirrors.urls import host

AT_ONCE = 4  # sources of one file at a time
_ALIKE = 1.10  # times the best one's time: no worse than that is as good, for tomorrow it may be the other way round
_ROUND_TRIPS = 3  # until a new connection brings bytes: TCP, TLS, and the request
_DICE = random.SystemRandom()
_HINT = "`i2v-setup mirrors test` says what each can do; check the network, the proxy and the certificate that are set"


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        mirror: the best one alone: for the environment's own configuration.
        reason: why this one: a sentence for people.
        measurements: those that it was chosen from.
        sources: all that are usable, best first; the first four are used at once, the others are in reserve.
        predicted: seconds until all bytes are here, from the first four together; what measuring has brought is here.
    """

    mirror: Mirror
    reason: str
    measurements: tuple[Measurement, ...]
    sources: tuple[Measurement, ...] = ()
    predicted: float = 0.0

    @property
    def upstream(self) -> Measurement | None:
        """What was measured of where the bytes are published; None: it was no candidate, or is remembered as no use."""
        return next((found for found in self.measurements if found.mirror.upstream), None)


def choose(measurements: Sequence[Measurement], amount: int, dice: random.Random = _DICE) -> Choice:
    """The mirrors that are predicted to give `amount` bytes the soonest.

    Among those whose prediction is no more than 10 % above the best one's, the first is picked at random, so that not
    everyone of a region goes to the same one. Of equal ones without a rate, the order that they came in decides.

    Raises:
        NoMirror: none is usable; says why for each.
    """
    good = sorted((found for found in measurements if found.verdict == "good"), key=lambda it: predicted(it, amount))
    if not good:
        raise NoMirror(f"no mirror is usable: {_why(measurements) or 'there is no candidate'}", _HINT)
    best = _one_of_the_best(good, amount, dice)
    sources = (best, *(found for found in good if found is not best))
    missing = max(0, amount - sum(found.kept for found in measurements))
    return Choice(best.mirror, _reason(sources, amount), tuple(measurements), sources, together(sources, missing))


def _why(measurements: Sequence[Measurement]) -> str:
    return reasons((found.mirror.name, found.reason) for found in measurements)


def reasons(told: Iterable[tuple[str, str]]) -> str:
    """Why each one is out, from names and the rest of a sentence; what holds for several is said once."""
    names: dict[str, list[str]] = {}
    for name, reason in told:
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{_all(who)} {reason}" for reason, who in names.items())


def _all(names: Sequence[str]) -> str:
    few = ", ".join(names[:3])
    return f"{few} and {len(names) - 3} more: each" if len(names) > 3 else f"{few}: each" if len(names) > 1 else few


def predicted(found: Measurement, amount: int) -> float:
    """Seconds until that many bytes are here from one mirror; without a rate, what it takes to reach it."""
    rate = _rate(found)
    return _ROUND_TRIPS * (found.latency or 0.0) + (amount / rate if rate else 0.0)


def together(sources: Sequence[Measurement], amount: int) -> float:
    """Seconds until that many bytes are here from the first four together, each giving what it was measured to give.

    All four work until the end, so what it takes to set up a connection to the farthest of them counts in full.
    """
    first = sources[:AT_ONCE]
    rates = [rate for found in first if (rate := _rate(found))]
    set_up = _ROUND_TRIPS * max((found.latency or 0.0 for found in first), default=0.0)
    return set_up + (amount / sum(rates) if rates and len(rates) == len(first) else 0.0)


def rates(sources: Sequence[Measurement]) -> dict[str, float]:
    """What was measured, in bytes/s by the host that gave it."""
    return {host(found.url): rate for found in sources if found.url and (rate := _rate(found))}


def requests_per_minute(sources: Sequence[Measurement]) -> dict[str, int]:
    """What the operators of mirrors allow, by the host that is asked."""
    limits = ((found.url, found.mirror.requests_per_minute) for found in sources)
    return {host(url): limit for url, limit in limits if url and limit}


def _rate(found: Measurement) -> float | None:
    """Bytes/s that we may hope for: what was measured, but no more than the mirror's operator allows."""
    if found.rate is None or found.mirror.max_rate is None:
        return found.rate
    return min(found.rate, found.mirror.max_rate)


def _one_of_the_best(good: Sequence[Measurement], amount: int, dice: random.Random) -> Measurement:
    limit = predicted(good[0], amount) * _ALIKE
    alike = [found for found in good if _rate(found) and predicted(found, amount) <= limit]
    return dice.choice(alike) if alike and alike[0] is good[0] else good[0]


def _reason(sources: Sequence[Measurement], amount: int) -> str:
    best, *others = sources
    words = [_told(best, amount)]
    if others:
        words.append(f"next best: {_told(others[0], amount)}")
    if others and amount and all(found.rate for found in sources[:AT_ONCE]):
        number = len(sources[:AT_ONCE])
        words.append(f"{number} of them together: {amount / 1e6:.0f} MB in about {_time(together(sources, amount))}")
    return "; ".join(words)


def _told(found: Measurement, amount: int) -> str:
    rate = _rate(found)
    if rate is None:
        return f"{found.mirror.name} {found.reason}"
    speed = f"{rate / 1e6:.1f} MB/s"
    if not amount:
        return f"{found.mirror.name}: {speed}"
    return f"{found.mirror.name}: {amount / 1e6:.0f} MB in about {_time(predicted(found, amount))} ({speed})"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
