"""Writes tar archives that are the same bytes wherever and whenever: no times, owners or names of users.

The standard library's headers differ between versions of Python; layers are named by their bytes, so these are our own:
ustar, with a PAX header before it only where ustar has no room. Knows no disk.

    https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)
_USTAR = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_FILE, _HARD_LINK, _SYMBOLIC_LINK, _DIRECTORY, _EXTENDED = b"0", b"1", b"2", b"5", b"x"
_LONGEST_NAME, _LONGEST_PREFIX = 100, 155
_LARGEST = 8**11 - 1  # bytes, as eleven octal digits say it


@dataclass(frozen=True)
class Rights:
    """Who may do what with a file: its mode, and the numbers of its user and group."""

    mode: int
    user: int = 0
    group: int = 0


_ANYBODY_READS, _ANYBODY_ENTERS = Rights(0o644), Rights(0o755)


def file(path: str, size: int, rights: Rights = _ANYBODY_READS) -> bytes:
    """What comes before the bytes of a file. `padding` comes after them."""
    return _entry(path, size, rights, _FILE)


def directory(path: str, rights: Rights = _ANYBODY_ENTERS) -> bytes:
    """The entry of a directory."""
    return _entry(f"{path}/", 0, rights, _DIRECTORY)


def symbolic_link(path: str, target: str, rights: Rights) -> bytes:
    """The entry of a link to `target`, as it is written there."""
    return _entry(path, 0, rights, _SYMBOLIC_LINK, target)


def hard_link(path: str, target: str, rights: Rights) -> bytes:
    """The entry of another name of the file that is `target` in the archive, and comes before it."""
    return _entry(path, 0, rights, _HARD_LINK, target)


def padding(size: int) -> bytes:
    """What fills the last block of a file."""
    return bytes(-size % BLOCK)


def _entry(path: str, size: int, rights: Rights, kind: bytes, target: str = "") -> bytes:
    encoded, link, extended = path.encode(), target.encode(), b""
    split = _split(encoded)
    if split is None:
        extended += _record(b"path", encoded)
    if len(link) > _LONGEST_NAME or not link.isascii():
        extended += _record(b"linkpath", link)
    if size > _LARGEST:
        extended += _record(b"size", b"%d" % size)
    prefix, name = split or (b"", _shortened(path))
    header = _header(prefix, name, size if size <= _LARGEST else 0, rights, kind, _shortened(target))
    if not extended:
        return header
    before = _header(b"", b"PaxHeaders/entry", len(extended), _ANYBODY_READS, _EXTENDED)
    return before + extended + padding(len(extended)) + header


def _shortened(path: str) -> bytes:
    return path.encode("ascii", "replace")[:_LONGEST_NAME]


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """The path as ustar keeps it, in two fields; None where it cannot."""
    if not path.isascii():
        return None
    if len(path) <= _LONGEST_NAME:
        return b"", path
    slash = path.find(b"/", len(path) - _LONGEST_NAME - 1, -2)
    return (path[:slash], path[slash + 1 :]) if 0 < slash <= _LONGEST_PREFIX else None


def _header(prefix: bytes, name: bytes, size: int, rights: Rights, kind: bytes, target: bytes = b"") -> bytes:
    def octal(number: int) -> bytes:
        return b"%07o" % number

    def filled(checksum: bytes) -> bytes:
        owner = (octal(rights.mode), octal(rights.user), octal(rights.group))
        numbers = (*owner, b"%011o" % size, b"%011o" % 0)
        return _USTAR.pack(
            name, *numbers, checksum, kind, target, b"ustar", b"00", b"", b"", octal(0), octal(0), prefix
        )  # fmt: skip

    return filled(b"%06o\0 " % sum(filled(b" " * 8)))


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a new line, where the length counts its own digits too."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)
