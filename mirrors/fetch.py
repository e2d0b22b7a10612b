"""One file from whichever source gives it: verified, resumed, never half visible.

The sources are asked one after the other. Each goes on where the last one stopped, also over kills and from another
process; the sha256 decides at the end, so no source has to be trusted. Knows nothing of indexes, or of which is fast.

Several sources at once will come in `fetch`; `download_from` is the work of one of them.
"""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests

from mirrors.errors import FetchFailed, NoSpace, Unreachable
from mirrors.http import HttpSettings, body, retry_after
from mirrors.store import Partial, Store, free_space
from mirrors.urls import shown

MAX_TRIES = 3  # of one source in a row without progress
MAX_WAIT = 30.0  # seconds that we let a source make us wait
SLOW = 64 * 1024  # bytes/s; below it another source is tried
CRAWLING = 1024  # bytes/s; below it a source is given up, even if it is the last one
WINDOW = 15.0  # seconds over which the rate is taken
_PROGRESS = 1 << 20  # so many new bytes make a broken connection worth a fresh set of tries
_BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Artifact:
    """A file that is wanted. The size may be unknown; the sha256 never comes from the server that gives the bytes."""

    name: str
    size: int | None
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """A file that is in the store.

    Attributes:
        bytes_fetched: what came over the network in this call, thrown-away bytes included.
        source: the URL that gave the last byte, without secrets; "store" if the file was there before.
        retries: requests beyond the first.
    """

    artifact: Artifact
    path: Path
    bytes_fetched: int
    seconds: float
    source: str
    retries: int


class SourceFault(Exception):
    """Why a source did not give the file: the second half of a sentence about it, and when to ask it again."""

    def __init__(self, reason: str, retry: Literal["now", "later", "never"], wait: float | None = None) -> None:
        super().__init__(reason)
        self.retry = retry
        self.wait = wait


@dataclass
class Progress:
    """What one fetch has moved so far, and who wants to know."""

    on_bytes: Callable[[int], None] = lambda _count: None
    received: int = 0
    requests: int = 0


@dataclass
class _Source:
    url: str
    floor: int = SLOW
    faults: list[str] = field(default_factory=list)


def fetch(
    artifact: Artifact,
    sources: Sequence[str],
    store: Store,
    http: HttpSettings,
    on_bytes: Callable[[int], None] | None = None,
) -> Fetched:
    """Get a file into the store.

    Args:
        artifact: what is wanted.
        sources: https URLs (or file URLs, or http on this machine) of that file, best first.
        store: where it goes.
        http: how to ask.
        on_bytes: told of every change in how many bytes are here, what an earlier run left included; the sum is the
            file's size in the end. Negative when bytes were thrown away.

    Raises:
        FetchFailed: no source gave it; says why for each.
        NoSpace: the disk is full.
        MirrorError: the store cannot be written.
    """
    began = time.monotonic()
    progress = Progress(on_bytes or (lambda _count: None))
    with store.incoming(artifact.sha256) as partial:
        if partial is None:
            path, source = store.path(artifact.sha256), "store"
            progress.on_bytes(path.stat().st_size)
        else:
            progress.on_bytes(partial.size)
            source = _from_any(artifact, sources, partial, http, progress)
            path = partial.publish()
    seconds = time.monotonic() - began
    return Fetched(artifact, path, progress.received, seconds, source, max(0, progress.requests - 1))


def _from_any(
    artifact: Artifact, sources: Sequence[str], partial: Partial, http: HttpSettings, progress: Progress
) -> str:
    """Complete the partial file; the source that gave the last byte, as people may see it."""
    if partial.complete:
        return "store"
    _require_room(artifact, partial)
    tried = [_Source(url) for url in sources]
    waiting = deque(tried)
    while waiting:
        source = waiting.popleft()
        kept = partial.size
        try:
            download_from(source.url, artifact, partial, http, progress, floor=source.floor)
        except SourceFault as fault:
            source.faults.append(str(fault))
            if fault.retry == "later" and source.floor == SLOW:  # better a slow source than none
                source.floor = CRAWLING
                waiting.append(source)
            continue
        if partial.complete:
            return shown(source.url)
        _throw_away(partial, progress)
        if kept:  # the wrong bytes may have been there before: this source gets a chance to give them all
            waiting.appendleft(source)
        else:
            source.faults.append("serves other bytes than the sha256 names")
    raise FetchFailed(f"no source gave {artifact.name}: {_told(tried)}", _hint(tried))


def download_from(
    source: str, artifact: Artifact, partial: Partial, http: HttpSettings, progress: Progress, *, floor: int
) -> None:
    """Bring the partial file to its full size from one source, going on after its last byte. Verifies nothing.

    Raises:
        SourceFault: the source is not able to; what it gave until then is kept.
        NoSpace: the disk is full.
    """
    tries = 0
    while True:
        had = partial.size
        try:
            progress.requests += 1
            return _ask_once(source, artifact, partial, http, progress, floor)
        except SourceFault as fault:
            tries = 1 if partial.size - had >= _PROGRESS else tries + 1
            wait = fault.wait if fault.wait is not None else random.uniform(0.5, 1) * 2 ** (tries - 1)  # noqa: S311
            if fault.retry != "now" or tries >= MAX_TRIES or wait > MAX_WAIT:
                raise
            time.sleep(wait)


def _ask_once(
    source: str, artifact: Artifact, partial: Partial, http: HttpSettings, progress: Progress, floor: int
) -> None:
    if artifact.size is not None and partial.size > artifact.size:
        _throw_away(partial, progress)
    if partial.size == artifact.size:
        return
    try:
        with closing(_open(source, partial.size, http)) as answer:
            _copy(answer, artifact, partial, progress, _Pace(floor))
    except _PastTheEnd:
        if artifact.size is None:  # else it is the source that has too little
            _throw_away(partial, progress)
        raise
    except Unreachable as error:
        raise SourceFault(error.reason, error.retry) from error


class _PastTheEnd(SourceFault):
    """More bytes are here than the source's file has."""

    def __init__(self) -> None:
        super().__init__("has fewer bytes than are here already", "now", wait=0)


@dataclass
class _Answer:
    """The bytes of a file from `start` on, and how many it has in all, if that was said."""

    blocks: Iterator[bytes]
    start: int
    total: int | None
    close: Callable[[], None]


def _copy(answer: _Answer, artifact: Artifact, partial: Partial, progress: Progress, pace: _Pace) -> None:
    total = artifact.size if answer.total is None else answer.total
    if total is None:
        raise SourceFault("does not say how long the file is", "never")
    if artifact.size not in (None, total):
        raise SourceFault(f"has a file of {total} bytes, not {artifact.size}", "never")
    if total - partial.size > free_space(partial.path):
        raise SourceFault(f"announces {total} bytes, more than there is room for", "never")
    if partial.size > total:  # what was here is not this file, and the answer begins at its first byte
        _throw_away(partial, progress)
    position = answer.start
    for block in answer.blocks:
        progress.received += len(block)
        fresh = block[max(0, partial.size - position) : total - position]
        position += len(block)
        if fresh:
            partial.write(fresh)
            progress.on_bytes(len(fresh))
        if partial.size == total:
            return  # whatever it still wants to send
        pace.saw(len(block))
    raise SourceFault(f"ends after {partial.size} of {total} bytes", "now")


def _open(source: str, offset: int, http: HttpSettings) -> _Answer:
    if urlsplit(source).scheme == "file":
        return _open_local(source, offset)
    response = http.get(source, {"Range": f"bytes={offset}-"} if offset else {})
    try:
        start, total = _extent(response, offset)
    except SourceFault:
        response.close()
        raise
    return _Answer(body(response), start, total, response.close)


def _open_local(source: str, offset: int) -> _Answer:
    path = Path(url2pathname(urlsplit(source).path))
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceFault(f"cannot be read: {error.strerror}", "never") from error
    file.seek(offset)
    return _Answer(iter(lambda: file.read(1 << 20), b""), offset, path.stat().st_size, file.close)


def _extent(response: requests.Response, offset: int) -> tuple[int, int | None]:
    """Which byte the body begins with, and the size of the whole file, if it is said."""
    status = response.status_code
    if status in _BUSY:
        raise SourceFault(f"answers {status} {response.reason}", "now", retry_after(response))
    if status == 416:
        raise _PastTheEnd
    if status not in (200, 206):
        raise SourceFault(f"answers {status} {response.reason}", "never")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise SourceFault("serves a web page instead of the file", "never")
    if status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isascii() and length.isdigit() else None
    extent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""), re.ASCII)
    if extent is None or int(extent[1]) != offset:
        raise SourceFault("answers with another range than was asked for", "never")
    return offset, int(extent[2])


class _Pace:
    """Complains when too little came in over a window of time."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._since = time.monotonic()
        self._bytes = 0

    def saw(self, count: int) -> None:
        self._bytes += count
        elapsed = time.monotonic() - self._since
        if elapsed < WINDOW:
            return
        if self._bytes < self._floor * elapsed:
            raise SourceFault(f"is slow: {self._bytes / elapsed / 1024:.1f} KiB/s", "later")
        self._since, self._bytes = time.monotonic(), 0


def _throw_away(partial: Partial, progress: Progress) -> None:
    progress.on_bytes(-partial.size)
    partial.restart()


def _require_room(artifact: Artifact, partial: Partial) -> None:
    if artifact.size is None:
        return
    missing, free = artifact.size - partial.size, free_space(partial.path)
    if missing > free:
        needed = f"{artifact.name} needs {missing / 1e6:.0f} MB more"
        left = f"{partial.path.parent} has {free / 1e6:.0f} MB left"
        raise NoSpace(f"{needed}, and {left}", "make room, or choose another disk")


def _told(sources: Sequence[_Source]) -> str:
    return "; ".join(f"{shown(source.url)} {', then '.join(source.faults)}" for source in sources) or "there is none"


def _hint(sources: Sequence[_Source]) -> str:
    if any("sha256" in fault for source in sources for fault in source.faults):
        return "wrong bytes were thrown away; choose another mirror"
    return "check the network, or choose another mirror; what came in is kept, and the next run goes on from there"
