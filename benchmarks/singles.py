"""The peers of `benchmarks.contest`: what each single mirror needs for all the files, and so each way to pick one.

Every peer ends up at one mirror. How long it takes is a real download with the same client and as many connections, all
mirrors side by side, for they have no part in each other's pace (one after the other where the client's own line is
narrow). What can no longer matter is stopped. Knows nothing of how we choose.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scenarios import Scenario
from benchmarks.shaped import File, ShapedMirrors
from mirrors.errors import MirrorError
from mirrors.fetch import Artifact, Downloads
from mirrors.http import HttpSettings
from mirrors.store import Store

PATIENCE = 2.5  # times the best mirror's time, after which a slower one is not waited for
LONGEST = 90.0  # seconds after which nobody is waited for
SERIAL_SECONDS = 8.0  # chsrc gives each candidate so long: curl -m 8
_GLANCE = 2.0  # seconds after which a single mirror that cannot win and that no peer takes is stopped
_POLL = 0.02
_MEMORY = Path("/dev/shm")  # so that what is measured is the network, not this machine's disk


@dataclass(frozen=True)
class Single:
    """How one mirror alone fared: the seconds until all was there, or how long it was waited for in vain."""

    seconds: float | None
    waited: float
    rate: float  # bytes/s over the first `SERIAL_SECONDS`, the wait for the first byte included

    @property
    def at_least(self) -> float:
        """Seconds that it takes, or more."""
        return self.seconds if self.seconds is not None else self.waited


class _Alone:
    """The download of all files from one mirror."""

    def __init__(self, number: int, drawn: Scenario, servers: ShapedMirrors, room: Path) -> None:
        self._received = 0
        self._early = 0  # bytes within the time that the serial rule measures
        self._began = time.monotonic()
        self._ended: float | None = None
        self.failed = False
        self._downloads = Downloads(Store(room / str(number)), HttpSettings(), self._count)
        self._thread = threading.Thread(target=self._wait, args=(drawn, servers, number), daemon=True)
        self._downloads.__enter__()
        self._thread.start()

    def _wait(self, drawn: Scenario, servers: ShapedMirrors, number: int) -> None:
        try:
            waiting = [
                self._downloads.want(artifact(file, servers), [servers.url(number, file.name)]) for file in drawn.files
            ]
            for download in waiting:
                download.result()
            self._ended = time.monotonic()
        except MirrorError:
            self.failed = True

    def _count(self, count: int) -> None:
        self._received += count
        if time.monotonic() - self._began <= SERIAL_SECONDS:
            self._early = self._received

    @property
    def seconds(self) -> float | None:
        return self._ended - self._began if self._ended is not None else None

    @property
    def over(self) -> bool:
        return self._ended is not None or self.failed

    def rate(self) -> float:
        now = self._ended if self._ended is not None else time.monotonic()
        return self._early / min(max(now - self._began, _POLL), SERIAL_SECONDS)

    def stop(self) -> Single:
        """Stop it where it is not done, and say how it went."""
        waited, rate = time.monotonic() - self._began, self.rate()
        self._downloads.__exit__(None, None, None)
        self._thread.join(5)
        return Single(self.seconds, waited, rate)


def singles(drawn: Scenario, servers: ShapedMirrors) -> dict[int, Single]:
    """How each mirror that may be used fares alone, by its number; where they go one by one, the two best only."""
    if drawn.link is None:
        return _side_by_side(drawn, servers, [number for number in range(len(drawn.shapes)) if number not in drawn.out])
    found: dict[int, Single] = {}
    for number in drawn.by_promise[:2]:
        found |= _side_by_side(drawn, servers, [number])
        servers.reset()
    return found


def _side_by_side(drawn: Scenario, servers: ShapedMirrors, numbers: Sequence[int]) -> dict[int, Single]:
    with room() as directory:
        began = time.monotonic()
        running = {number: _Alone(number, drawn, servers, directory) for number in numbers}
        found: dict[int, Single] = {}
        while running:
            time.sleep(_POLL)
            found |= {number: alone.stop() for number, alone in running.items() if alone.over}
            running = {number: alone for number, alone in running.items() if number not in found}
            matter = _still_matter(drawn, running, found, time.monotonic() - began)
            found |= {number: alone.stop() for number, alone in running.items() if number not in matter}
            running = {number: running[number] for number in matter}
    return found


def _still_matter(
    drawn: Scenario, running: dict[int, _Alone], found: dict[int, Single], elapsed: float
) -> frozenset[int]:
    """Those that may be the best, and those that a peer takes, until these are hopeless."""
    if elapsed < _GLANCE:
        return frozenset(running)
    rates = {number: single.rate for number, single in found.items()}
    rates |= {number: alone.rate() for number, alone in running.items()}
    fastest = max(rates, key=lambda number: rates[number])
    done = [single.seconds for single in found.values() if single.seconds is not None]
    if elapsed > (PATIENCE * min(done) if done else LONGEST):
        return frozenset()
    picked = {0, drawn.fixed, _nearest(drawn), fastest}
    promising = {number for number in running if number in drawn.by_promise[:3] or rates[number] > rates[fastest] / 2}
    return frozenset(running) & (picked if done else picked | promising)


def best(found: dict[int, Single]) -> float:
    """Seconds of the mirror that an oracle would take."""
    return min((single.seconds for single in found.values() if single.seconds is not None), default=LONGEST)


def peers(drawn: Scenario, found: dict[int, Single]) -> dict[str, tuple[float, bool]]:
    """Seconds of each peer by its name, what it spends on its choice included, and whether it was done by then."""
    picks = {"upstream only": 0, "one fixed mirror": drawn.fixed, "lowest latency": _nearest(drawn)}
    spent = dict.fromkeys(picks, 0.0)
    if drawn.link is None:
        serial = "the serial 8 s rule of chsrc (emulated)"
        picks[serial] = max(found, key=lambda number: found[number].rate)
        spent[serial] = sum(_trial(drawn, number, found.get(number)) for number in range(len(drawn.shapes)))
    never = Single(None, PATIENCE * best(found), 0.0)
    taken = {
        name: never if number in drawn.out else found[number]
        for name, number in picks.items()
        if number in found or number in drawn.out
    }
    return {name: (spent[name] + single.at_least, single.seconds is not None) for name, single in taken.items()}


def _trial(drawn: Scenario, number: int, single: Single | None) -> float:
    """Seconds that the serial rule spends on a candidate: the largest file, for so long at most."""
    if single is not None:
        return min(SERIAL_SECONDS, drawn.files[0].size / max(single.rate, 1.0))
    shape = drawn.shapes[number]
    return SERIAL_SECONDS if shape.fault == "hang" else 2 * shape.rtt + shape.first_byte  # its answer is no file


def _nearest(drawn: Scenario) -> int:
    """The mirror that answers first, of those that serve the file at all (pickers by latency do not look at that)."""
    serving = [number for number in range(len(drawn.shapes)) if number not in drawn.out]
    return min(serving, key=lambda number: 2 * drawn.shapes[number].rtt + drawn.shapes[number].first_byte)


@contextmanager
def room() -> Iterator[Path]:
    """A directory for a store."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="i2v-bench-", dir=parent, ignore_cleanup_errors=True) as room:
        yield Path(room)


def artifact(file: File, servers: ShapedMirrors) -> Artifact:
    """A file as our code wants it."""
    return Artifact(file.name, file.size, servers.sha256[file.name])
