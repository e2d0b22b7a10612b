"""One blob's way to a registry: whole, in one request; where that is not taken, in pieces.

A proxy before a registry may take no request above a certain size, or none that lasts longer than a minute. So what
was refused for its size, or broke off, is sent in pieces, each of which the registry acknowledges. Where one breaks
off, the registry is asked how much it has. A blob is there only when its last request was answered: then the registry
has found its digest right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, urljoin, urlsplit

from images.calls import TRIES, wait_before
from images.errors import ImageError
from images.oci import Blob
from images.registry import Registry
from images.registry_errors import RegistryError
from images.registry_http import Answer
from mirrors.urls import may_link, shown

_BINARY = {"Content-Type": "application/octet-stream"}
_SLICE = 1 << 18  # bytes that are sent, and told of, at once
_PIECE = 64 << 20  # bytes; the first size that is tried
_SMALLEST_PIECE = 1 << 20  # what nginx takes if it is told nothing
_NEVER_WHOLE = (0, 408, 413, 502, 504)  # what says that pieces may fare better; 0: it broke off
# How often a blob may be begun, if the registry says of what it has that it is wrong, or that it knows nothing of it.
_BEGINNINGS = {400: 2, 404: TRIES}
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


def upload(registry: Registry, blob: Blob, on_sent: Callable[[int], None]) -> None:
    """Send a blob, and have it acknowledged.

    Args:
        registry: where to.
        blob: is read once, or again from wherever the registry wants it.
        on_sent: called with the bytes that went out; with a negative number if some must be sent again.

    Raises:
        ImageError: It is not there, and why.
    """
    tally = _Tally(on_sent)
    if not _sent_whole(registry, blob, tally):
        _Pieces(registry, blob, tally).send()
    tally.reached(blob.descriptor.size)


def begin(registry: Registry, query: str = "") -> Answer:
    """Ask to take a blob: 202 and where to send it, or, if the query names one that could be mounted, 201."""
    where = f"{registry.reference.repository}/blobs/uploads/{query}"
    what = f"the repository {registry.reference.repository}"
    return registry.ask("POST", where, what, (201, 202) if query else (202,))


def mount(registry: Registry, digest: str, sibling: str) -> bool:
    """Let the repository share a blob that another one on the same registry has; whether it does."""
    try:
        with begin(registry, f"?mount={quote(digest)}&from={quote(sibling)}") as answer:
            if answer.status == 201:
                return True
            location = _location(registry, answer)
    except RegistryError as error:
        # Some refuse what may be read but not shared, instead of beginning an upload.
        if error.status in (401, 403, 404, 405):
            return False
        raise
    registry.ask("DELETE", location, "the end of an upload", range(200, 500)).close()
    return False


def _location(registry: Registry, answer: Answer) -> str:
    """Where an upload goes on."""
    found = urljoin(answer.url, answer.headers.get("Location", ""))
    # A proxy that ends TLS before a registry which does not know of it: the address is right but for its scheme.
    if found.startswith("http://") and answer.url.startswith(f"https://{urlsplit(found).netloc}/"):
        found = found.replace("http", "https", 1)
    if "Location" not in answer.headers or not may_link(answer.url, found):
        raise ImageError(f"{registry.reference.host} sends an upload to {shown(found)}, which is not https")
    return found


class _Tally:
    """How far a blob has got, and telling of each change."""

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self._on_sent = on_sent
        self._at = 0

    def reached(self, position: int) -> None:
        if position != self._at:
            self._on_sent(position - self._at)
            self._at = position


class _Part:
    """Some of a blob's bytes as a request carries them."""

    def __init__(self, blob: Blob, start: int, size: int, tally: _Tally) -> None:
        self._blob = blob
        self._start = start
        self._size = size
        self._tally = tally

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        at, end = self._start, self._start + self._size
        self._tally.reached(at)
        try:
            for piece in self._blob.read(at):
                view = memoryview(piece)[: end - at]
                for start in range(0, len(view), _SLICE):
                    part = view[start : start + _SLICE]
                    yield part
                    at += len(part)
                    self._tally.reached(at)
                if at == end:
                    return
        # Where it comes from may be a registry too, whose failures are not this one's.
        except RegistryError as error:
            raise ImageError(str(error), error.hint) from error
        except OSError as error:
            raise ImageError(f"cannot read {self._blob.descriptor.digest}: {error.strerror or error}") from error
        raise ImageError(f"{self._blob.descriptor.digest} ends after {at} bytes, and not {end}", "its file was changed")


def _sent_whole(registry: Registry, blob: Blob, tally: _Tally) -> bool:
    """Whether it got there in one request. If not, it may in pieces."""
    descriptor = blob.descriptor
    for tried in range(TRIES):
        with begin(registry) as answer:
            location = _location(registry, answer)
        try:
            _finish(registry, location, blob, _Part(blob, 0, descriptor.size, tally))
        except RegistryError as error:
            if error.status in _NEVER_WHOLE:
                return registry.has_blob(descriptor.digest)  # only the answer may have been lost
            if tried + 1 == TRIES or not error.passes:
                raise
            tally.reached(0)
            wait_before(tried, error.wait)
        else:
            return True
    raise AssertionError("the last try ends it")


def _finish(registry: Registry, location: str, blob: Blob, part: _Part | None) -> None:
    """Send what is left, say that this was all, and have the digest found right."""
    digest = blob.descriptor.digest
    where = f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"
    body = part if part else b""  # none, and not one of no length, which would be sent without saying how long it is
    with registry.ask("PUT", where, f"the blob {digest}", (201,), _BINARY, body) as answer:
        registry.acknowledged(answer, digest)


class _Pieces:
    """A blob that is sent in pieces: where to, how much is there, and how large the next one may be."""

    def __init__(self, registry: Registry, blob: Blob, tally: _Tally) -> None:
        self._registry = registry
        self._blob = blob
        self._tally = tally
        self._location = ""  # none: nothing has begun
        self._at = 0
        self._piece = _PIECE
        self._unsure = False  # whether the registry must be asked how much it has
        self._begun = 0
        self._failures = 0  # without anything that got there in between

    def send(self) -> None:
        while True:
            try:
                if not self._location and self._begun and self._registry.has_blob(self._blob.descriptor.digest):
                    return  # only the last answer was lost
                self._take_up()
                while self._at < self._blob.descriptor.size:
                    self._send_piece()
                _finish(self._registry, self._location, self._blob, None)
            except RegistryError as error:
                self._recover(error)
            else:
                return

    def _take_up(self) -> None:
        if not self._location:
            self._begun += 1
            with begin(self._registry) as answer:
                self._location, self._at = _location(self._registry, answer), 0
            self._tally.reached(0)
        elif self._unsure:
            with self._registry.ask("GET", self._location, self._what, (204,)) as answer:
                self._acknowledged(answer, 0)
        self._unsure = False

    def _send_piece(self) -> None:
        size = min(self._piece, self._blob.descriptor.size - self._at)
        headers = {**_BINARY, "Content-Range": f"{self._at}-{self._at + size - 1}"}
        part = _Part(self._blob, self._at, size, self._tally)
        try:
            with self._registry.ask("PATCH", self._location, self._what, (202, 204), headers, part) as answer:
                self._acknowledged(answer, self._at + size)
        except RegistryError as error:
            if error.status != 413 or size <= _SMALLEST_PIECE:
                raise
            self._piece = max(size // 2, _SMALLEST_PIECE)
            self._tally.reached(self._at)

    def _acknowledged(self, answer: Answer, otherwise: int) -> None:
        """Take over from an answer how much the registry has, and where it wants the rest."""
        self._location = _location(self._registry, answer)
        said = _RANGE.fullmatch(answer.headers.get("Range", ""))
        # "0-0" is what a registry says that has nothing, as well as one that has one byte.
        there = otherwise if said is None else int(said[1]) + 1 if int(said[1]) else 0
        if there > self._blob.descriptor.size:
            raise ImageError(
                f"{self._registry.reference.host} says it has {there} bytes of {self._what}, which has fewer"
            )
        if there > self._at:
            self._failures = 0
        self._at = there
        self._tally.reached(there)

    def _recover(self, error: RegistryError) -> None:
        """Wait, and see then what became of a piece that broke off; or begin anew, if what was there is lost."""
        self._failures += 1
        beginnings = _BEGINNINGS.get(error.status, 0)
        if self._failures >= TRIES or (self._begun >= beginnings and not error.passes and error.status != 416):
            raise error
        self._unsure = True
        if beginnings:
            self._location = ""
        wait_before(self._failures - 1, error.wait)

    @property
    def _what(self) -> str:
        return f"the blob {self._blob.descriptor.digest}"
