"""Writes tar archives that are the same bytes wherever and whenever: no times, owners or names of users.

The standard library's headers differ between versions of Python; layers are named by their bytes, so these are our own:
ustar, with a PAX header before it only where ustar has no room. Knows no disk.

    https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

import struct

BLOCK = 512
END = bytes(2 * BLOCK)
_USTAR = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_FILE, _DIRECTORY, _EXTENDED = b"0", b"5", b"x"
_LONGEST_NAME, _LONGEST_PREFIX = 100, 155
_LARGEST = 8**11 - 1  # bytes, as eleven octal digits say it


def file(path: str, size: int) -> bytes:
    """What comes before the bytes of a file that anybody may read. `padding` comes after them."""
    return _entry(path, size, 0o644, _FILE)


def directory(path: str) -> bytes:
    """The entry of a directory that anybody may enter."""
    return _entry(f"{path}/", 0, 0o755, _DIRECTORY)


def padding(size: int) -> bytes:
    """What fills the last block of a file."""
    return bytes(-size % BLOCK)


def _entry(path: str, size: int, mode: int, kind: bytes) -> bytes:
    encoded, extended = path.encode(), b""
    split = _split(encoded)
    if split is None:
        extended += _record(b"path", encoded)
    if size > _LARGEST:
        extended += _record(b"size", b"%d" % size)
    prefix, name = split or (b"", encoded.decode("ascii", "replace").encode("ascii", "replace")[:_LONGEST_NAME])
    header = _header(prefix, name, size if size <= _LARGEST else 0, mode, kind)
    if not extended:
        return header
    before = _header(b"", b"PaxHeaders/entry", len(extended), 0o644, _EXTENDED)
    return before + extended + padding(len(extended)) + header


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """The path as ustar keeps it, in two fields; None where it cannot."""
    if not path.isascii():
        return None
    if len(path) <= _LONGEST_NAME:
        return b"", path
    slash = path.find(b"/", len(path) - _LONGEST_NAME - 1, -2)
    return (path[:slash], path[slash + 1 :]) if 0 < slash <= _LONGEST_PREFIX else None


def _header(prefix: bytes, name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    def octal(number: int) -> bytes:
        return b"%07o" % number

    def filled(checksum: bytes) -> bytes:
        numbers = (octal(mode), octal(0), octal(0), b"%011o" % size, b"%011o" % 0)
        return _USTAR.pack(
            name, *numbers, checksum, kind, b"", b"ustar", b"00", b"", b"", octal(0), octal(0), prefix
        )  # fmt: skip

    return filled(b"%06o\0 " % sum(filled(b" " * 8)))


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a new line, where the length counts its own digits too."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)
