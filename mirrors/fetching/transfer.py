"""One request for one range of one file from one URL, and what can be wrong with the answer.

Knows nothing of other sources, of stores, or of what the bytes should be.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests

from mirrors.errors import Unreachable
from mirrors.http import HttpSettings, body, retry_after
from mirrors.interrupt import Interrupt, Interrupted
from mirrors.urls import is_loopback

BLOCK = 1 << 18  # bytes; a read of the socket gives at most so many
_SIZE = r"\d{1,18}"  # one with more digits is nonsense, and beyond 4300 `int` refuses it
_BUSY = (429, 500, 502, 503, 504)


class SourceFault(Exception):
    """Why a source did not give the bytes: the second half of a sentence about it, and when to ask it again.

    Attributes:
        retry: when another try may help: soon, when nothing better is left, or never.
        wait: the seconds that the server asked us to wait.
    """

    def __init__(self, reason: str, retry: Literal["now", "later", "never"], wait: float | None = None) -> None:
        super().__init__(reason)
        self.retry = retry
        self.wait = wait


class PastTheEnd(SourceFault):
    """The file there ends before the range that was asked for; how long it is was not said."""

    def __init__(self) -> None:
        super().__init__("has fewer bytes than are here already", "never")


@dataclass(frozen=True)
class Answer:
    """The bytes of a file from `start` on.

    Attributes:
        blocks: as they come in; raises SourceFault where they break off, Interrupted when cut.
        start: which byte the first one is: the one asked for, or 0.
        total: the bytes of the whole file, if that was said.
        ranged: whether the source serves ranges.
        url: who gave them, after redirects; it may carry a signature.
    """

    blocks: Iterator[bytes]
    start: int
    total: int | None
    ranged: bool
    url: str = field(repr=False)


@contextmanager
def ask(url: str, start: int, end: int | None, http: HttpSettings, interrupt: Interrupt) -> Iterator[Answer]:
    """The answer to a request for the bytes from `start` up to `end` (None: to the last), while the block runs.

    Args:
        url: https, file, or http on this machine.
        start: the first byte.
        end: the byte after the last one.
        http: how to ask.
        interrupt: ends the waiting.

    Raises:
        SourceFault: there is none, or not of these bytes.
        Interrupted: by another thread.
    """
    if reason := refusal(url):
        raise SourceFault(reason, "never")
    if urlsplit(url).scheme == "file":
        with _local(url, start) as answer:
            yield answer
        return
    try:
        response = http.get(url, {"Range": f"bytes={start}-{'' if end is None else end - 1}"}, interrupt=interrupt)
    except Unreachable as error:
        raise SourceFault(error.reason, error.retry) from error
    blocks = _blocks(response, interrupt)
    try:
        first, total, ranged = _extent(response, start)
        yield Answer(blocks, first, total, ranged, response.url)
    finally:
        blocks.close()
        response.close()


def refusal(url: str) -> str | None:
    """Why a URL is never asked, whoever named it; None: it may be."""
    try:
        scheme = urlsplit(url).scheme
        if scheme in ("https", "file") or (scheme == "http" and is_loopback(url)):
            return None
    except ValueError:
        return "is not a URL that can be fetched"
    return "is not https"


def _blocks(response: requests.Response, interrupt: Interrupt) -> Generator[bytes, None, None]:
    """The body as it comes in. Whoever waits for it can be woken: its connection is shut down."""
    try:
        with interrupt.ends(lambda: _hang_up(response)):
            yield from body(response, block=BLOCK)
    except Unreachable as error:
        if interrupt.is_cut:
            raise Interrupted from None
        raise SourceFault(error.reason, error.retry) from error
    if interrupt.is_cut:
        raise Interrupted


def _hang_up(response: requests.Response) -> None:
    try:
        with socket.socket(fileno=os.dup(response.raw.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError, AttributeError):
        return  # it came to its end just now, and has no socket any more


@contextmanager
def _local(url: str, start: int) -> Iterator[Answer]:
    with _reading():
        file = FileIO(url2pathname(urlsplit(url).path))
    with file:
        with _reading():
            total = os.fstat(file.fileno()).st_size
            file.seek(start)
        yield Answer(_blocks_of(file), start, total, True, url)


def _blocks_of(file: FileIO) -> Iterator[bytes]:
    with _reading():
        while block := file.read(BLOCK):
            yield block


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceFault(f"cannot be read: {error.strerror}", "never") from error


def _extent(response: requests.Response, start: int) -> tuple[int, int | None, bool]:
    """Which byte the body begins with, the size of the whole file if it is said, and whether ranges are served."""
    status = response.status_code
    if status in _BUSY:
        raise SourceFault(f"answers {status} {response.reason}", "now", retry_after(response))
    if status == 416:
        length = re.fullmatch(rf"bytes \*/({_SIZE})", response.headers.get("Content-Range", ""), re.ASCII)
        if length is None:
            raise PastTheEnd
        return start, int(length[1]), True
    if status not in (200, 206):
        raise SourceFault(f"answers {status} {response.reason}", "never")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise SourceFault("serves a web page instead of the file", "never")
    if status == 200:
        length = re.fullmatch(_SIZE, response.headers.get("Content-Length", ""), re.ASCII)
        return 0, int(length[0]) if length else None, False
    extent = re.fullmatch(rf"bytes ({_SIZE})-{_SIZE}/({_SIZE})", response.headers.get("Content-Range", ""), re.ASCII)
    if extent is None or int(extent[1]) != start:
        raise SourceFault("answers with another range than was asked for", "never")
    return start, int(extent[2]), True
