"""One mirror under test: what it is asked, and what its answers say of it.

It is asked for its index page and for a part of the wanted file (`look`), and, if it is among the best, for more parts
over several connections at once (`read_more`). Whatever it does is data, never an exception. Knows nothing of the
other mirrors, or of which is best.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from mirrors import index
from mirrors.catalogue import Mirror, channel_base
from mirrors.errors import MirrorError, Unreachable
from mirrors.index import Listed, NotAnIndex, NotHttps
from mirrors.probing.answer import PastTheEnd
from mirrors.probing.measurement import Measurement, Unusable, Wanted
from mirrors.probing.parts import Part
from mirrors.probing.reader import Reader
from mirrors.urls import host, may_link

MOST_BYTES = 16 << 20  # of the wanted file, from one mirror
CONNECTIONS = 4  # to one mirror; as many as the fetch opens
_LEAST_MORE = 1 << 16  # bytes for a connection of the second round: less would say nothing
_SMALL_PROJECT = "wheel"  # every PyPI mirror has it, and its page is short


@dataclass
class Contender(Reader):
    """One mirror's part in the measuring."""

    _next: Part | None = None  # for the connection of the first round, when that is over
    _looked: bool = False

    def look(self) -> None:
        """The first round: has it the wanted file, how soon and how fast does one connection bring a part of it."""
        try:
            self._look()
        except Unusable as reason:
            self.out = str(reason)
        except (Unreachable, NotAnIndex) as error:
            self.out = error.reason
        except MirrorError as error:
            self.out = f"cannot be asked: {error}"
        except Exception as error:  # noqa: BLE001  # whatever a hostile answer makes a parser do is the mirror's fault
            self.out = f"sends what cannot be read ({type(error).__name__})"
        with self._lock:
            self.told = self._looked = True
            part = self._next
        if part is not None:
            self.read_more(part)

    def to_the_finals(self, others: int, seconds: float) -> list[Part]:
        """Take parts for the second round, one a connection, within the limits.

        The connection of the first round, if that is still going on, takes one of them by itself.

        Args:
            others: how many contenders, this one included, are still to share the rest of the file.
            seconds: how much work there is to be for each connection.

        Returns:
            The parts for which `read_more` is to be called, each in a thread of its own.
        """
        parts = self._shares(others, seconds)
        with self._lock:
            if parts and not self._looked:
                self._next = parts.pop()
                self.more.opened()
            self.finalist = self._next is not None or bool(parts)
        return parts

    def _shares(self, others: int, seconds: float) -> list[Part]:
        connections = min(CONNECTIONS, self.most_requests - self.asked)
        if connections < 1 or not self.takes_ranges:
            return []
        parts, room = self.parts, (MOST_BYTES - self.bytes_read) // connections
        wished = max(_LEAST_MORE, int((self.first.rate() or 0) * seconds))
        length = min(room, wished, parts.free(self.total) // (connections * others))
        return [part for _ in range(connections) if length and (part := parts.take(length, self.total))]

    def read_more(self, part: Part) -> None:
        """The second round: read a part over a connection of its own. A failure only means one connection less."""
        with suppress(Exception):  # as in `look`, whatever a hostile answer makes a parser do
            self.read(self.final_url or "", part)

    @property
    def good(self) -> bool:
        """Whether it can be used, as far as is known."""
        return self.out is None and (self.told or self.first.total > 0)

    @property
    def is_silent(self) -> bool:
        """Whether it lists the wanted file and has not begun to send it."""
        return self.out is None and self.file is not None and not self.told and not self.first.total

    def measurement(self, out: str | None, late: str) -> Measurement:
        """What is known now.

        Args:
            out: why it cannot be used, if that is known.
            late: what to say of one that has not brought anything yet.
        """
        out = out or (None if self.good else self._too_late(late))
        pace = self.more if self.more.is_telling else self.first
        rate, connections = pace.rate(), max(1, min(CONNECTIONS, pace.connections))
        return Measurement(
            self.mirror,
            self.latency,
            rate,
            "unusable" if out else "good",
            out or self._praise(rate, connections),
            self.asked,
            self.bytes_read,
            self.file,
            connections,
            self.first.rate(),
        )

    def _look(self) -> None:
        wanted, mirror = self.course.wanted, self.mirror
        if mirror.url.startswith("file:"):
            self._look_in_directory(wanted)
        elif wanted is not None and wanted.address is not None:
            known = wanted.sha256 if isinstance(wanted.sha256, str) else None
            self.file = Listed(wanted.filename or wanted.project, wanted.address(mirror), known, wanted.size)
            self._read_part(wanted)
        elif mirror.layout in ("simple", "flat") and (wanted is not None or mirror.kind == "pypi"):
            self._look_in_index(wanted)
        else:
            with closing(self.get(_address(mirror), {})) as response:
                if response.status_code in (403, 429) or response.status_code >= 500:
                    raise Unusable(index.refusal(response))

    def _look_in_index(self, wanted: Wanted | None) -> None:
        project = wanted.project if wanted else _SMALL_PROJECT
        page = index.get_page(self.mirror, project, self, self.course.end - time.monotonic())
        try:
            files = index.files(page, project, wanted.is_named if wanted else None)
        except NotHttps:
            raise Unusable(_not_https(wanted.label if wanted else project)) from None
        if wanted is not None:
            self.file = wanted.pick(files)
            self._read_part(wanted)

    def _look_in_directory(self, wanted: Wanted | None) -> None:
        directory = Path(url2pathname(urlsplit(self.mirror.url).path))
        if not directory.is_dir():
            raise Unusable("is not a directory")
        if wanted is not None:
            found = next((path for path in directory.rglob("*.whl") if wanted.is_named(path.name)), None)
            if found is None:
                raise Unusable(f"lacks {wanted.label}")
            self.file = Listed(found.name, found.as_uri(), None, found.stat().st_size)
        self.latency = 0.0

    def _read_part(self, wanted: Wanted) -> None:
        """Read a part of the wanted file that nobody else reads; where all are taken, its beginning."""
        assert self.file is not None
        url = self.file.url
        if not may_link(self.mirror.url, url):
            raise Unusable(_not_https(wanted.label))
        self.got_from({host(url)})
        parts, length = self.parts, self.course.first_bytes
        part = parts.take_any(length, self.total)
        try:
            self.read(url, part)
        except PastTheEnd as answered:  # its size was not known; now it is
            self.learn_size(answered.size)
            self.read(url, parts.take_any(length, self.total))

    def _praise(self, rate: float | None, connections: int) -> str:
        if self.mirror.url.startswith("file:"):
            return "is a local directory"
        delay = f"{1000 * (self.latency or 0):.0f} ms"
        if self.course.wanted is None or rate is None:
            return f"answers after {delay}"
        over = f" over {connections} connections" if connections > 1 else ""
        return f"has {self.course.wanted.label}; first byte after {delay}, {rate / 1e6:.1f} MB/s{over}"

    def _too_late(self, late: str) -> str:
        if self.file is not None and self.course.wanted is not None:
            return f"lists {self.course.wanted.label} and does not send it {late}"
        return f"does not answer {late}"


def _not_https(label: str) -> str:
    return f"lists {label} at an address that is not https"


def _address(mirror: Mirror) -> str:
    """What to ask a mirror of no index for, to see whether it answers."""
    if mirror.kind == "docker":
        return f"{mirror.url}/v2/"
    if mirror.kind == "conda":
        return f"{channel_base(mirror)}/conda-forge/noarch/repodata.json.zst"
    return quote(mirror.url, safe=":/@?=&%+~") + "/"
