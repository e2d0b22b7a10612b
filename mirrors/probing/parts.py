"""Who reads which part of the wanted file, so that no byte of it is read twice, and where the bytes go.

Measuring mirrors on a file that is wanted anyway costs nothing as long as each reads a part of its own. Knows nothing
of mirrors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mirrors.errors import MirrorError
from mirrors.ranges import Ranges
from mirrors.store import Store

_ENDLESS = 1 << 50


@dataclass(frozen=True)
class Part:
    """Which bytes of the file one request is for, `end` not included; `spare`: somebody else reads them too."""

    start: int
    end: int
    spare: bool = False


@dataclass
class Piece:
    """Bytes of the wanted file from `offset` on, as one connection to `source` read them."""

    source: str
    offset: int
    data: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def end(self) -> int:
        """Where the bytes that are here end."""
        return self.offset + len(self.data)


class Parts:
    """The parts of one file that nobody reads yet. Thread-safe.

    Where the size of the file is not known for certain, one mirror's word for it (`told`, in bytes) counts for the
    parts that this mirror reads, and for nobody else's.
    """

    def __init__(self, size: int | None = None, here: Sequence[tuple[int, int]] = ()) -> None:
        """`size`: in bytes, if it is known; `here`: what of the file need not be read any more."""
        self._size = size
        self._said: dict[str, int] = {}
        self._taken = Ranges(here)
        self._lock = threading.Lock()

    def learn_size(self, size: int, source: str, *, sure: bool = False) -> None:
        """A source says how many bytes the file has: believed if it must know, or if another one says so too."""
        with self._lock:
            said_before = any(said == size for other, said in self._said.items() if other != source)
            if sure or (self._size is None and said_before):
                self._size = size
            self._said[source] = size

    def take(self, length: int, told: int | None = None) -> Part | None:
        """The next part of at most that length; None: all parts are taken."""
        with self._lock:
            end = self._end(told)
            gaps = self._taken.gaps(0, self._taken.end + length if end is None else end)
            if not gaps:
                return None
            start, end = next((gap for gap in gaps if _length(gap) >= length), None) or max(gaps, key=_length)
            end = min(end, start + length)
            self._taken.add(start, end)
            return Part(start, end)

    def take_any(self, length: int, told: int | None = None) -> Part:
        """As `take`, but the file's beginning where all parts are taken."""
        return self.take(length, told) or Part(0, min(length, self._end(told) or length), spare=True)

    def free(self, told: int | None = None) -> int:
        """Bytes that nobody reads; where the size is unknown, as many as anyone likes."""
        with self._lock:
            end = self._end(told)
            return sum(map(_length, self._taken.gaps(0, _ENDLESS if end is None else end)))

    def give_back(self, part: Part, read: int = 0) -> None:
        """Nobody reads the rest of this part after all, of which so many bytes were read."""
        if part.start + read < part.end and not part.spare:
            with self._lock:
                self._taken.remove(part.start + read, part.end)

    def _end(self, told: int | None) -> int | None:
        return min((size for size in (self._size, told) if size is not None), default=None)


class Files:
    """The parts of each file that mirrors are measured on: one file, unless a mirror lacks the one that others have."""

    def __init__(self, size: int | None, store: Store | None) -> None:
        self._size = size
        self._store = store
        self._parts: dict[str, Parts] = {}
        self._lock = threading.Lock()

    def parts(self, filename: str, sha256: str | None) -> Parts:
        """Those of the file with that name; what is in the store of it counts as taken."""
        with self._lock:
            if filename not in self._parts:
                self._parts[filename] = _parts(self._size, self._store, sha256)
            return self._parts[filename]


def keep(store: Store, sha256: str, pieces: Sequence[Piece]) -> int:
    """Put what was read into the store's partial file, as far as it is not there; how many bytes that were.

    Nothing is kept where the whole file is there, where another process is at work on it, or where the disk has no
    room: whoever fetches the file says so.
    """
    kept = 0
    with suppress(MirrorError), store.incoming(sha256, wait=False) as partial:
        if partial is None:
            return 0
        for piece in pieces:
            data = bytes(piece.data)  # whoever is late may still be adding to it
            for start, end in partial.have.gaps(piece.offset, piece.offset + len(data)):
                partial.write(start, data[start - piece.offset : end - piece.offset], piece.source)
                kept += end - start
    return kept


def _parts(size: int | None, store: Store | None, sha256: str | None) -> Parts:
    """What of a file is still to be read: all of it where there is no store, or another process is at work on it."""
    if store is None or sha256 is None:
        return Parts(size)
    with suppress(MirrorError), store.incoming(sha256, wait=False) as partial:
        if partial is not None:
            return Parts(size, list(partial.have))
        whole = store.path(sha256).stat().st_size
        return Parts(whole, [(0, whole)])
    return Parts(size)


def _length(gap: tuple[int, int]) -> int:
    return gap[1] - gap[0]
