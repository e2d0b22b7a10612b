"""Asking one mirror, within what is decent: so many requests and bytes, for so long; and what its bytes show of it.

Knows nothing of index pages, of rounds, or of the other mirrors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

import requests

from mirrors.catalogue import Mirror
from mirrors.http import MAX_REDIRECTS, HttpSettings, body
from mirrors.index import Listed
from mirrors.probing import answer
from mirrors.probing.hosts import Hosts
from mirrors.probing.measurement import Unusable, Wanted
from mirrors.probing.pace import Pace
from mirrors.probing.parts import Files, Part, Parts, Piece
from mirrors.urls import host

MOST_REQUESTS = 6  # to one mirror, redirects included
_READ = 1 << 16  # bytes in one go: small enough to see the pace of a probe
_TELLING_BYTES, _TELLING_SECONDS = 1 << 16, 0.15  # of a part: they say enough of a slow mirror to go on with it


@dataclass
class Course:
    """What all contenders of a measuring run under: nothing is asked after `end`, and all stop when they are told."""

    wanted: Wanted | None
    http: HttpSettings
    files: Files
    hosts: Hosts
    first_bytes: int
    end: float
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        """Whether reading on is of no use."""
        return self.stop.is_set() or time.monotonic() > self.end


@dataclass
class Reader:
    """What was asked of a mirror, and what came of it. Filled in as it becomes known, by several threads.

    Attributes:
        mirror: which one.
        course: the rules.
        out: why it cannot be used, once that is known.
        told: enough has been read to say how fast it is.
        finalist: it is in the second round.
        latency: seconds to the first byte of the latest answer before any of the file was there.
        asked: requests, redirects included.
        file: the wanted file, as it lists it.
        final_url: where that is after redirects.
        total: the file's size, as its server says.
        takes_ranges: whether it gave the part that was asked for, and not the whole.
        hosts: those that the bytes came from.
        pieces: the bytes.
        first, more: their pace in the first and in the second round.
        reading: how many connections are bringing bytes now.
    """

    mirror: Mirror
    course: Course
    out: str | None = None
    told: bool = False
    finalist: bool = False
    latency: float | None = None
    asked: int = 0
    file: Listed | None = None
    final_url: str | None = field(default=None, repr=False)
    total: int | None = None
    takes_ranges: bool = False
    hosts: set[str] = field(default_factory=set)
    pieces: list[Piece] = field(default_factory=list)
    first: Pace = field(default_factory=Pace)
    more: Pace = field(default_factory=Pace)
    reading: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, url: str, headers: Mapping[str, str], within: float | None = None) -> requests.Response:
        """As `HttpSettings.get`, within the time that is left; counts, and takes the latency."""
        began = time.monotonic()
        left = self.course.end - began
        if left <= 0 or self.course.stop.is_set():
            raise Unusable("is too slow to answer in time")
        if self.asked >= self.most_requests:
            raise Unusable(f"would need more than {self.most_requests} requests")
        allowed = 0 if self.finalist else min(MAX_REDIRECTS, self.most_requests - 1 - self.asked)
        self.course.http.session().max_redirects = allowed
        self._count(asked=1)
        response = self.course.http.get(url, headers, left if within is None else min(within, left))
        self._count(asked=len(response.history))
        if not self.first.total:
            self.latency = time.monotonic() - began
        return response

    def _count(self, *, asked: int = 0, reading: int = 0) -> None:
        with self._lock:
            self.asked += asked
            self.reading += reading

    def read(self, url: str, part: Part) -> None:
        """One request for a part of the file, judged by its headers, and read until it ends or time is up."""
        assert self.course.wanted is not None
        piece = Piece(host(url), part.start)
        try:
            with closing(self.get(url, {"Range": f"bytes={part.start}-{part.end - 1}"})) as response:
                self.got_from({host(hop.url) for hop in (*response.history, response)})
                piece.offset, size = answer.examine(response, part.start, self.course.wanted.label)
                self.learn_size(size)
                self.takes_ranges = response.status_code == 206
                self.final_url = self.final_url or response.url
                self._pace.opened()
                self._count(reading=1)
                try:
                    self._copy(response, piece, part.end - part.start)
                finally:
                    self._count(reading=-1)
        finally:
            self.parts.give_back(part, len(piece.data) if piece.offset == part.start else 0)

    def got_from(self, hosts: set[str]) -> None:
        """The file, or the way to it, leads there: to the mirror itself, or to somebody else.

        Raises:
            Unusable: to another candidate.
        """
        self.hosts = self.hosts | hosts  # a new set: the old one may be read just now
        self.course.hosts.learn(self.mirror, hosts)
        if (not_own := self.not_own) is not None:
            raise Unusable(not_own)

    def learn_size(self, size: int | None) -> None:
        """What an answer says of the size of the file, in bytes.

        Raises:
            Unusable: it is not what is known.
        """
        assert self.course.wanted is not None
        wanted = self.course.wanted
        expected = self.total if wanted.size is None else wanted.size
        if None not in (size, expected) and size != expected:
            self.out = f"has a file of {size} bytes for {wanted.label}, not of {expected}"
            raise Unusable(self.out)
        self.total = size or self.total
        if self.total:
            self.parts.learn_size(self.total, host(self.mirror.url), sure=self.mirror.upstream)

    @property
    def not_own(self) -> str | None:
        """What to say of a mirror whose bytes come from another candidate; None: they do not, as far as is known."""
        owner = self.course.hosts.owner(self.mirror, self.hosts)
        return None if owner is None else f"is no mirror of its own: the bytes come from {owner.name}"

    @property
    def bytes_read(self) -> int:
        """Bytes of the wanted file so far."""
        return self.first.total + self.more.total

    @property
    def most_requests(self) -> int:
        """To the mirror: ours, or what its operator allows."""
        return min(MOST_REQUESTS, self.mirror.requests_per_minute or MOST_REQUESTS)

    @property
    def parts(self) -> Parts:
        """Those of the file that this mirror was found to have."""
        assert self.file is not None
        return self.course.files.parts(self.file.filename, self.file.sha256)

    @property
    def _pace(self) -> Pace:
        return self.more if self.finalist else self.first

    def _copy(self, response: requests.Response, piece: Piece, length: int) -> None:
        """Read until the part is here, or time is up; to its very end, so that the connection can be used again."""
        assert self.file is not None
        is_wheel, began = self.file.filename.endswith(".whl"), time.monotonic()
        for block in body(response, block=_READ):
            if len(piece.data) >= length:
                break
            if not piece.data:
                if piece.offset == 0 and is_wheel and not block.startswith(b"PK"):
                    break
                self.pieces.append(piece)
            piece.data += block[: length - len(piece.data)]
            self._pace.saw(len(block))
            if len(piece.data) >= length:
                self._pace.closed()
            telling = len(piece.data) >= _TELLING_BYTES and time.monotonic() - began >= _TELLING_SECONDS
            self.told = self.told or telling or len(piece.data) >= length
            if self.course.over:
                break
        if not piece.data:
            raise Unusable("serves something else in place of the file")
