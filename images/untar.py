"""Reads tar archives that nobody vouches for, from a file or as they come in. Puts nothing on the disk.

What an entry is called is told as it stands there, and leads nowhere by itself. The standard library would take as much
memory as a header asks for. Engines read archives with Go's library: what that could read otherwise than we do, so that
something else is unpacked than was looked at, is refused.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

from images.blobs import PIECE
from images.errors import ImageError
from images.tars import BLOCK

_MAX_ENTRIES = 10_000
_MAX_NAME = 256  # characters of an entry's path, on average
_MAX_EXTENDED = 1 << 20  # bytes of one extended header
_LONG_NAME, _LONG_LINK, _EXTENDED = b"L", b"K", b"x"


Kind = Literal["file", "directory", "hard link", "symbolic link", "special file"]
_KINDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    b"1": "hard link",
    b"2": "symbolic link",
    **dict.fromkeys((b"3", b"4", b"6"), "special file"),
    b"5": "directory",
}


@dataclass(frozen=True)
class Entry:
    """An entry of an archive. `target` is that of a link, as an entry's path; `at` is where a file's bytes begin."""

    path: str
    kind: Kind
    target: str | None
    size: int
    at: int

    @property
    def is_file(self) -> bool:
        """Whether its bytes come with it."""
        return self.kind == "file"


class Source(Protocol):
    """Where an archive comes from: read from its beginning to its end."""

    @property
    def at(self) -> int:
        """How far it was read."""
        ...

    def read(self, count: int) -> bytes:
        """The next bytes, as many as are asked for or are left."""
        ...

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        ...


class FileSource:
    """An archive in a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @property
    def at(self) -> int:
        """How far it was read."""
        return self._file.tell()

    def read(self, count: int) -> bytes:
        """The next bytes."""
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        self._file.seek(count, 1)


class StreamSource:
    """An archive that comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = memoryview(b"")
        self._at = 0

    @property
    def at(self) -> int:
        """How far it was read."""
        return self._at

    def read(self, count: int) -> bytes:
        """The next bytes."""
        return b"".join(self.take(count))

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        for _ in self.take(count):
            pass

    def take(self, count: int) -> Iterator[bytes]:
        """The next bytes in pieces as they come in, none larger than 1 MiB."""
        while count:
            if not self._held:
                self._held = memoryview(next(self._pieces, b""))
                if not self._held:
                    return
            piece = self._held[: min(count, PIECE)]
            self._held = self._held[len(piece) :]
            self._at += len(piece)
            count -= len(piece)
            yield bytes(piece)


def entries(source: Source, name: str, most: int = _MAX_ENTRIES) -> Iterator[Entry]:
    """The entries of an archive, in order. Of a file's bytes the caller may read what it wants before it goes on.

    Args:
        source: At its beginning.
        name: What people call the archive.
        most: The number of entries that it may have.

    Raises:
        ImageError: It is no tar archive, it ends early, or it is made to do harm.
    """
    seen: set[str] = set()
    room = most * _MAX_NAME
    extended: dict[str, str] = {}
    before: set[bytes] = set()  # the kinds of headers that are for the next entry
    try:
        while (header := _full(source, BLOCK)).strip(b"\0"):
            size, flag = _number(header[124:136]), header[156:157]
            if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
                raise ValueError("a header is damaged")
            if flag in (_LONG_NAME, _LONG_LINK, _EXTENDED):
                if flag in before or _EXTENDED in before or (before and flag == _EXTENDED):
                    raise ValueError("it has several headers for one entry")
                before.add(flag)
                extended |= _extended(flag, _content(source, size))
                continue
            before.clear()
            if flag == b"g":  # it speaks of times and comments
                extended = {}
                _content(source, size)
                continue
            entry = _entry(header, extended, size, flag, source.at)
            extended = {}
            room -= len(entry.path)
            if entry.path in seen or len(seen) == most or room < 0:
                raise ValueError("it has an entry twice, or too many")
            seen.add(entry.path)
            end = entry.at + entry.size + -entry.size % BLOCK
            yield entry
            source.skip(end - source.at)
    except (ValueError, OSError) as error:
        raise ImageError(f"{name} is not a tar archive that can be read: {error}", "save or fetch it again") from None


def _full(source: Source, count: int) -> bytes:
    found = source.read(count)
    if len(found) < count:
        raise ValueError("it ends early, or is compressed")
    return found


def _content(source: Source, size: int) -> bytes:
    if size > _MAX_EXTENDED:
        raise ValueError("a header is too large")
    return _full(source, size + -size % BLOCK)[:size]


def _extended(kind: bytes, content: bytes) -> dict[str, str]:
    """What a header says that comes before the one that it is for: by GNU's form, or by PAX."""
    if kind != _EXTENDED:
        return {"path" if kind == _LONG_NAME else "linkpath": content.rstrip(b"\0").decode()}
    found = {}
    while content:
        length = int(content.partition(b" ")[0])
        key, equals, value = content[:length].partition(b" ")[2].partition(b"=")
        if length > len(content) or not equals or not value.endswith(b"\n"):
            raise ValueError("a header is damaged")
        if value != b"\n":  # nothing said: the entry's own header holds
            found[key.decode()] = value[:-1].decode(errors="replace")
        content = content[length:]
    return found


def _entry(header: bytes, extended: dict[str, str], size: int, flag: bytes, at: int) -> Entry:
    name, magic = _text(header[:100]), header[257:263]
    if magic == b"ustar\0" and header[345:346] != b"\0":
        if header[508:] == b"tar\0":
            raise ValueError("it is in the format of star")
        name = f"{_text(header[345:500])}/{name}"
    elif magic == b"ustar ":
        for field in (header[345:357], header[357:369]):
            _number(field)  # where these are no times, some take them for the beginning of the name
    if any(key.startswith("GNU.sparse") for key in extended) or flag not in _KINDS:
        raise ValueError("a file is sparse, or of an unknown kind")
    name = extended.get("path", name)
    path = _inside(name)
    kind = "directory" if flag == b"\0" and name.endswith("/") else _KINDS[flag]
    if kind == "file" and "size" in extended:
        size = int(extended["size"])
    if size < 0:
        raise ValueError("a size is no number")
    target = None
    if kind in ("hard link", "symbolic link"):
        target = _target(path, extended.get("linkpath", _text(header[157:257])), symbolic=kind == "symbolic link")
    return Entry(path, kind, target, size if kind == "file" else 0, at)


def _inside(path: str) -> str:
    """The path without needless parts; `ValueError` if it leads out of where the archive is unpacked."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"the entry {path[:200]!r} leads out of it")
    return posixpath.normpath(path)


def _target(path: str, target: str, *, symbolic: bool) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target) if symbolic else target)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _number(field: bytes) -> int:
    """As tar writes numbers: in octal digits, or in bytes where there are too few."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():
        raise ValueError("a number is none")
    return int(digits, 8)
