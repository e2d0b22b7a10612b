"""Measuring mirrors: all at once, by what the install will ask of them, for as long as it pays.

A mirror is good if it serves the pinned file that is wanted, itself, to the installer that will come. What it is
measured on are bytes that the install needs: each mirror reads a different part of the file, and what a good one (or
one that was only late) has brought is put into the store.

This is successive halving without a barrier (ASHA, Li et al. 2018): whoever is among the best four of those that have
finished the first round goes on to the second at once, whoever else may still be missing. The measuring ends when all
are done, or when to wait for the rest would cost more than it can bring. Knows nothing of which mirror to take.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from mirrors import choose
from mirrors.catalogue import Mirror
from mirrors.http import HttpSettings
from mirrors.probing.contender import Contender
from mirrors.probing.hosts import Hosts
from mirrors.probing.measurement import Measurement, Wanted
from mirrors.probing.parts import Files, keep
from mirrors.probing.reader import Course
from mirrors.store import Store
from mirrors.urls import host

__all__ = ["PROBE_BYTES", "Measurement", "Wanted", "measure"]

PROBE_BYTES = 256 * 1024  # of the wanted file, from every mirror
_FINALISTS = choose.AT_ONCE
_SMALLEST_PART = 16 * 1024
_GRACE = 0.5  # seconds after the first good one that the others have in any case
_PATIENCE = 0.05  # of the predicted time: what waiting may cost
_HOPE = 0.2  # the same while one that lists the file has sent nothing yet: a cache may be fetching it, and be fast then
_LAST_MOMENT = 0.2  # seconds before the deadline at which nothing more is asked
_LAST_BLOCKS = 0.5  # seconds at most for what is on its way when all is over
_QUIET = 0.05  # seconds without any of it: the rest is not worth waiting for
_TICK = 0.05


def measure(
    mirrors: Sequence[Mirror],
    wanted: Wanted | None,
    http: HttpSettings,
    *,
    amount: int = 0,
    store: Store | None = None,
    deadline: float = 4.5,
) -> list[Measurement]:
    """Measure all mirrors at once; one measurement a mirror, in their order, after `deadline` seconds at the latest.

    Args:
        mirrors: the candidates. A mirror that gets its bytes from another one of them is unusable.
        wanted: the pinned file that they must have; None: only whether they answer, and how soon.
        http: how to ask; its User-Agent should be the installer's.
        amount: bytes that the install needs: it says how long measuring pays. 0: nothing is to be installed, so all
            mirrors are waited for, and none is asked for more than the first part.
        store: where the bytes that were read go; None: nowhere.
        deadline: seconds.
    """
    began = time.monotonic()
    parts = _first_bytes(wanted, len(mirrors))
    files = Files(wanted.size if wanted else None, store)
    race = _Race(mirrors, Course(wanted, http, files, Hosts(mirrors), parts, began + deadline - _LAST_MOMENT), amount)
    race.run(began + deadline)
    found = race.measurements(f"within {time.monotonic() - began:.2g} s")
    kept = race.keep(store, wanted) if store is not None and wanted is not None else {}
    at = time.time()
    return [replace(found[mirror.url], mirror=mirror, kept=kept.get(mirror.url, 0), at=at) for mirror in mirrors]


class _Race:
    """The measuring: contenders, each in threads of its own, and this one thread that decides."""

    def __init__(self, mirrors: Sequence[Mirror], course: Course, amount: int) -> None:
        self._contenders = {mirror.url: Contender(mirror, course) for mirror in mirrors}
        self._course = course
        self._amount = amount
        self._first_good: float | None = None
        self._running = 0
        self._finished: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._final: dict[str, str | None] = {}  # why each one is out; whoever is late does not change its mind

    def run(self, deadline: float) -> None:
        """Until the race is over; `deadline` by the monotonic clock."""
        began = time.monotonic()
        for contender in self._contenders.values():
            self._start(contender.look)
        until = deadline
        while self._running and time.monotonic() < until:
            with suppress(queue.Empty):
                self._finished.get(timeout=max(0.0, min(_TICK, until - time.monotonic())))
                self._running -= 1
            until = min(deadline, self._pays_until(began))
            self._promote(until)
        self._course.stop.set()
        self._take_last_blocks(min(deadline, time.monotonic() + _LAST_BLOCKS))
        self._final = self._outs()

    def _take_last_blocks(self, until: float) -> None:
        """Whoever is reading ends with the next block: what is on its way, on a full line, need not be sent again."""
        read, changed = self._bytes_read(), time.monotonic()
        while (now := time.monotonic()) < min(until, changed + _QUIET) and self._is_anyone_reading():
            time.sleep(_QUIET / 10)
            if self._bytes_read() != read:
                read, changed = self._bytes_read(), now

    def _bytes_read(self) -> int:
        return sum(one.bytes_read for one in self._contenders.values())

    def _is_anyone_reading(self) -> bool:
        return any(one.reading for one in self._contenders.values())

    def measurements(self, late: str) -> dict[str, Measurement]:
        """What was found, by the mirrors' URLs; `late` is said of those that have brought nothing."""
        return {url: one.measurement(self._final[url], late) for url, one in self._contenders.items()}

    def _start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                self._finished.put(None)

        self._running += 1
        threading.Thread(target=run, name="i2v-probe", daemon=True).start()  # one that hangs is left behind

    def _promote(self, until: float) -> None:
        """Send those into the second round that are among the best four of the first one now, with work until then."""
        if not self._amount or self._course.wanted is None:
            return
        outs = self._outs()
        good = [one for one in self._contenders.values() if one.told and one.first.total and not outs[one.mirror.url]]
        good.sort(key=lambda one: (one.latency or 0.0) + self._amount / (one.first.rate() or 1.0))
        for one in good[:_FINALISTS]:
            if not one.finalist and self._is_surely_the_file(one):
                waiting = _FINALISTS - sum(other.finalist for other in self._contenders.values())
                for part in one.to_the_finals(max(1, waiting), max(_GRACE, until - time.monotonic())):
                    self._start(functools.partial(one.read_more, part))

    def _is_surely_the_file(self, one: Contender) -> bool:
        """Whether somebody else confirms the size of what a mirror has, or nobody is left who could."""
        others = [other for other in self._contenders.values() if other is not one and other.out is None]
        sizes = [other.total for other in others if other.total is not None]
        known = self._course.wanted is not None and self._course.wanted.size is not None
        return known or one.mirror.upstream or one.total in sizes or all(other.told for other in others)

    def _pays_until(self, began: float) -> float:
        """Until when waiting costs little beside what is still to come, going by those that are good so far."""
        good = [one for one in self._contenders.values() if one.good]
        if not self._amount or not any(one.told for one in good):
            return float("inf")
        self._first_good = self._first_good or time.monotonic()
        sources = sorted((one.measurement(None, "") for one in good), key=lambda it: choose.predicted(it, self._amount))
        hopeful = any(one.is_silent for one in self._contenders.values())
        patience = (_HOPE if hopeful else _PATIENCE) * choose.together(sources, self._amount)
        return max(self._first_good + _GRACE, began + patience)

    def _outs(self) -> dict[str, str | None]:
        """Why each one is out, as far as is known now; None: it is not."""
        outs = {url: one.out or one.not_own for url, one in self._contenders.items()}
        wrong = self._of_wrong_size([one for url, one in self._contenders.items() if outs[url] is None])
        return {url: out or wrong.get(url) for url, out in outs.items()}

    def _of_wrong_size(self, good: Sequence[Contender]) -> dict[str, str]:
        """Where the lock does not say a file's size, upstream does, else most mirrors; whoever says otherwise is out.

        Where as many say one thing as another, nobody is: the sha256 will tell.
        """
        wrong: dict[str, str] = {}
        by_name: dict[str, list[Contender]] = {}
        for one in good:
            if one.file is not None and one.total is not None:
                by_name.setdefault(one.file.filename, []).append(one)
        for same in by_name.values():
            right, whose = _right_size(same)
            for one in same:
                if right is not None and one.total != right:
                    wrong[one.mirror.url] = f"has a file of {one.total} bytes where {whose} {right}"
        return wrong

    def keep(self, store: Store, wanted: Wanted) -> dict[str, int]:
        """Put into the store what the good ones have brought, and those that were only late; bytes by mirrors' URLs."""
        good = [one for url, one in self._contenders.items() if self._final[url] is None and one.file is not None]
        kept: dict[str, int] = {}
        for one in good:
            sha256 = _sha256(one, good, wanted)
            if sha256 is not None:
                kept[one.mirror.url] = keep(store, sha256, one.pieces)
        return kept


def _right_size(same: Sequence[Contender]) -> tuple[int | None, str]:
    """The size of a file that several mirrors have, and whose word that is; None: as many say this as that."""
    published = next((one.total for one in same if one.mirror.upstream), None)
    if published is not None:
        return published, "upstream's has"
    votes = Counter(one.total for one in {host(one.mirror.url): one for one in same}.values()).most_common(2)
    if len(votes) == 2 and votes[0][1] == votes[1][1]:
        return None, ""
    return votes[0][0], "that of most others has"


def _sha256(one: Contender, others: Sequence[Contender], wanted: Wanted) -> str | None:
    """The hash of the file that a mirror was measured on, if the lock or a listing leaves no doubt."""
    assert one.file is not None
    if one.file.sha256 is not None:
        return one.file.sha256
    if wanted.filename is not None and isinstance(wanted.sha256, str):
        return wanted.sha256
    same = (other.file for other in others if other.file and other.file.filename == one.file.filename)
    return next((file.sha256 for file in same if file.sha256), None)


def _first_bytes(wanted: Wanted | None, mirrors: int) -> int:
    """How much of the wanted file each mirror is asked for first: all of them together at most half of it."""
    if wanted is None or wanted.size is None:
        return PROBE_BYTES
    return min(PROBE_BYTES, max(_SMALLEST_PART, wanted.size // 2 // max(1, mirrors)))
