"""The bytes of one file that are here so far: any parts of it, in any order, from any sources, kept over kills.

    PATH          the bytes, sparse
    PATH.have     one line per part that was written: `start end source`; the source "-" means: no longer here

A line is written after its bytes, at most NOTE_BYTES or NOTE_SECONDS later, so a kill costs no more than that; a torn
last line is ignored. Thread-safe. Knows nothing of networks, or of who brings which part.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from pathlib import Path

from mirrors.disk import made, sync_directory, trouble
from mirrors.errors import MirrorError
from mirrors.ranges import Ranges

NOTE_BYTES = 1 << 20
NOTE_SECONDS = 0.02
HASH_BLOCK = 1 << 20
_GONE = "-"


class Mismatch(MirrorError):
    """The bytes are not those that the sha256 names."""


class Partial:
    """A file that is coming in. Only who holds the store's lock for that file may have one (see Store.incoming)."""

    def __init__(self, path: Path, final: Path) -> None:
        self.path = path
        self._final = final  # named by the sha256
        self._lock = threading.Lock()  # guards all that follows; the bytes themselves are written outside it
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._have = Ranges()
        self._sources: dict[str, Ranges] = {}
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._block = memoryview(bytearray(HASH_BLOCK))
        self._open = True
        self._notes = _Notes(notes_of(path))
        size = os.fstat(self._file).st_size
        for start, end, source in self._notes.read():
            self._mark(start, min(end, size), source)

    @property
    def have(self) -> Ranges:
        """Which bytes are here; a copy."""
        with self._lock:
            return self._have.copy()

    @property
    def prefix(self) -> int:
        """How many bytes are here from the first on without a gap."""
        with self._lock:
            return self._have.prefix

    def reach(self, position: int) -> int:
        """Up to where the bytes are here without a gap from `position` on."""
        with self._lock:
            return self._have.reach(position)

    def sources(self) -> dict[str, Ranges]:
        """Who gave which of the bytes that are here; copies."""
        with self._lock:
            return {source: ranges.copy() for source, ranges in self._sources.items() if ranges}

    def write(self, offset: int, block: bytes | memoryview, source: str) -> None:
        """Put bytes in their place.

        Args:
            offset: where they belong in the file.
            block: the bytes.
            source: who gave them: a word without spaces or secrets, such as a host with its port.

        Raises:
            NoSpace: the disk is full. What was written before stays for the next time.
        """
        with trouble(self.path):
            view, position = memoryview(block), offset
            while view:
                written = os.pwrite(self._file, view, position)
                view, position = view[written:], position + written
            with self._lock:
                self._mark(offset, position, source)
                self._notes.add(offset, position, source)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, which must be here."""
        with self._lock:
            if not self._open or (start, end) not in self._have:
                raise ValueError(f"bytes {start} to {end} are not here")
            return os.pread(self._file, end - start, start)

    def forget(self, start: int, end: int) -> None:
        """No longer have the bytes from `start` to `end`."""
        with trouble(self.path), self._lock:
            self._mark(start, end, _GONE)
            self._notes.add(start, end, _GONE)
            self._notes.flush()

    def hash_on(self, limit: int = HASH_BLOCK) -> int:
        """Hash on at most `limit` (up to HASH_BLOCK) bytes that follow without a gap; how many. For one thread only."""
        with self._lock:
            digest, start = self._hash, self._hashed
            end = min(self._have.prefix, start + min(limit, HASH_BLOCK))
        if start >= end:
            return 0
        with trouble(self.path):
            count = os.preadv(self._file, [self._block[: end - start]], start)
        digest.update(self._block[:count])
        with self._lock:
            if digest is self._hash:  # nothing of it was forgotten meanwhile
                self._hashed = start + count
        return count

    @property
    def hashed(self) -> int:
        """How many bytes from the first on have been hashed."""
        return self._hashed

    @property
    def complete(self) -> bool:
        """Whether the bytes that are here, from the first on without a gap, are the very file."""
        while self.hash_on():
            pass
        return self._hash.hexdigest() == self._final.name

    def publish(self) -> Path:
        """Make the whole file visible in the store, read-only from then on; where it lies.

        Raises:
            Mismatch: these are other bytes.
        """
        if not self.complete:
            raise Mismatch(f"{self._hashed} bytes have the sha256 {self._hash.hexdigest()}, not {self._final.name}")
        with trouble(self.path):
            os.ftruncate(self._file, self._hashed)
            os.fsync(self._file)
            made(self._final.parent)
            self.path.replace(self._final)
            os.fchmod(self._file, 0o444)  # only now: a kill must not leave a partial file that cannot be written
            sync_directory(self._final.parent)
            self._notes.drop()
        return self._final

    def close(self) -> None:
        """Let go of the file; its bytes stay, unless there are none."""
        with trouble(self.path), self._lock:
            if not self._open:
                return
            self._open = False
            try:
                self._notes.close()
            finally:
                os.close(self._file)
            if not self._have:
                self.path.unlink(missing_ok=True)
                self._notes.drop()

    def _mark(self, start: int, end: int, source: str) -> None:
        for ranges in self._sources.values():
            ranges.remove(start, end)
        if source != _GONE:
            self._have.add(start, end)
            self._sources.setdefault(source, Ranges()).add(start, end)
        else:
            self._have.remove(start, end)
        if start < self._hashed and start < end:
            self._hash, self._hashed = hashlib.sha256(), 0


class _Notes:
    """The lines beside the bytes. What is written bit by bit becomes one line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._waiting: dict[tuple[int, str], int] = {}  # (end, source) -> start
        self._bytes = 0
        self._since = time.monotonic()

    def read(self) -> list[tuple[int, int, str]]:
        """The parts that were noted down, in the order they came."""
        text = self._path.read_text(encoding="utf-8", errors="replace")
        lines = re.findall(r"^(\d{1,18}) (\d{1,18}) (\S+)\n", text, re.ASCII | re.MULTILINE)
        if text and not text.endswith("\n"):
            os.write(self._file, b"\n")  # the next line shall not be lost with the torn one
        return [(int(start), int(end), source) for start, end, source in lines]

    def add(self, start: int, end: int, source: str) -> None:
        first = self._waiting.pop((start, source), start)
        self._waiting[end, source] = first
        self._bytes += end - start
        if self._bytes >= NOTE_BYTES or time.monotonic() - self._since >= NOTE_SECONDS:
            self.flush()

    def flush(self) -> None:
        lines = "".join(f"{start} {end} {source}\n" for (end, source), start in self._waiting.items())
        os.write(self._file, lines.encode())
        self._waiting.clear()
        self._bytes, self._since = 0, time.monotonic()

    def close(self) -> None:
        try:
            self.flush()
        finally:
            os.close(self._file)

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)


def notes_of(path: Path) -> Path:
    """Where it is noted down what of a partial file is here."""
    return path.with_name(f"{path.name}.have")
