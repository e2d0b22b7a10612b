import io
import tarfile
from collections.abc import Callable

import pytest

from images import tars
from images.errors import ImageError
from images.untar import Entry, FileSource, Source, StreamSource, entries


def _pieces(archive: bytes) -> StreamSource:
    return StreamSource(archive[start : start + 700] for start in range(0, len(archive), 700))


def _file(archive: bytes) -> FileSource:
    return FileSource(io.BytesIO(archive))


both = pytest.mark.parametrize("opened", [_file, _pieces])
Opened = Callable[[bytes], Source]


def _read(source: Source) -> list[Entry]:
    return list(entries(source, "it"))


@both
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_any_form_are_read(form: int, opened: Opened) -> None:
    contents = {"short": b"1" * 512, "d/" * 40 + "n": b"", "e" * 60 + "/" + "f" * 90: b"2" * 1000, "last": b"3"}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for path, content in contents.items():
            member = tarfile.TarInfo(path)
            member.size, member.mtime = len(content), 1.5 if form == tarfile.PAX_FORMAT else 1
            archive.addfile(member, io.BytesIO(content))
        archive.addfile(_linked("d/link", "../last", tarfile.SYMTYPE))
        archive.addfile(_linked("hard", "./d/link", tarfile.LNKTYPE))
    found = _read(opened(file.getvalue()))
    assert {entry.path: file.getvalue()[entry.at :][: entry.size] for entry in found if entry.is_file} == contents
    assert {entry.path: entry.target for entry in found if entry.target} == {"d/link": "last", "hard": "d/link"}


def test_our_own_archives_are_read() -> None:
    archive = tars.directory("a") + tars.file("a/b" + "c" * 300, 5) + b"12345" + tars.padding(5) + tars.END
    directory, file = _read(_file(archive))
    assert (directory.path, directory.is_file) == ("a", False)
    assert (file.path, file.size) == ("a/b" + "c" * 300, 5)


@both
@pytest.mark.parametrize("size", [8**11, 1 << 40])
def test_large_sizes_are_understood(size: int, opened: Opened) -> None:
    large = tarfile.TarInfo("large")
    large.size = size
    for header in (large.tobuf(tarfile.GNU_FORMAT), large.tobuf(tarfile.PAX_FORMAT), tars.file("large", size)):
        assert next(entries(opened(header), "it")).size == size


@both
@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../out", "a/.."])
def test_an_entry_that_leads_out_is_refused(path: str, opened: Opened) -> None:
    with pytest.raises(ImageError, match="leads out"):
        _read(opened(tars.file(path, 0) + tars.END))


@both
@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"", "ends early"),
        (tars.file("a", 0), "ends early"),
        (tars.file("a", 5000) + b"short", "ends early"),
        (b"\x1f\x8b" + bytes(600), "not a tar archive"),
        (b"nothing of the kind " * 100, "not a tar archive"),
        (tars.file("a", 0).replace(b"a", b"b", 1) + tars.END, "damaged"),
        (tars.file("a", 0) * 2 + tars.END, "twice"),
        (tars.file("./a", 0) + tars.file("a", 0) + tars.END, "twice"),
        (b"".join(tars.file(str(number), 0) for number in range(10_001)) + tars.END, "too many"),
        (tarfile.TarInfo("n" * 2_000_000).tobuf(tarfile.PAX_FORMAT) + tars.END, "header is too large"),
        (tarfile.TarInfo("n" * 2_000_000).tobuf(tarfile.GNU_FORMAT) + tars.END, "header is too large"),
    ],
)
def test_a_damaged_or_hostile_archive_is_refused(archive: bytes, why: str, opened: Opened) -> None:
    with pytest.raises(ImageError, match=why):
        _read(opened(archive))


@pytest.mark.parametrize("record", ["path", "99 path=x\n", "1 path=x\n", "-9 path=x\n", "0 path=x\n", "12 size=-512\n"])
def test_a_damaged_extended_header_is_refused(record: str) -> None:
    content = record.encode()
    before = tarfile.TarInfo("x")
    before.type, before.size = tarfile.XHDTYPE, len(content)
    archive = before.tobuf(tarfile.USTAR_FORMAT) + content + tars.padding(len(content)) + tars.file("a", 0) + tars.END
    with pytest.raises(ImageError, match="it is not a tar archive"):
        _read(_file(archive))


def _linked(path: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, target
    return member


def _raw(header: bytes, **fields: bytes) -> bytes:
    """A header with other bytes at some places, and the checksum that is right for them."""
    changed = bytearray(header)
    for place, value in fields.items():
        at = int(place.removeprefix("at"))
        changed[at : at + len(value)] = value
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def _extended(*records: bytes) -> bytes:
    content = b"".join(records)
    before = tarfile.TarInfo("x")
    before.type, before.size = tarfile.XHDTYPE, len(content)
    return before.tobuf(tarfile.USTAR_FORMAT) + content + tars.padding(len(content))


def _long_name(name: bytes) -> bytes:
    return _raw(tars.file("x", len(name)), at156=b"L") + name + tars.padding(len(name))


@both
@pytest.mark.parametrize(
    "archive",
    [
        _raw(tars.file("a", 0), at156=b"Z"),
        _raw(tars.file("a", 0), at156=b"S"),
        _raw(tars.file("a", 0), at345=b"model", at508=b"tar\0"),
        _raw(tars.file("a", 0), at257=b"ustar  \0", at345=b"model"),
        _raw(tars.file("a", 0), at124=b"0000000_001\0"),
        _extended(b"10 path=b\n") + _extended(b"10 path=c\n") + tars.file("a", 0),
        _extended(b"10 path=b\n") + _long_name(b"c") + tars.file("a", 0),
        _long_name(b"c") + _extended(b"10 path=b\n") + tars.file("a", 0),
    ],
)
def test_what_an_engine_could_read_otherwise_is_refused(archive: bytes, opened: Opened) -> None:
    with pytest.raises(ImageError, match="not a tar archive that can be read"):
        _read(opened(archive + tars.END))


@both
def test_an_extended_header_that_says_nothing_of_the_path_leaves_it(opened: Opened) -> None:
    assert [entry.path for entry in _read(opened(_extended(b"8 path=\n") + tars.file("a", 0) + tars.END))] == ["a"]


@both
def test_a_directory_of_the_oldest_kind_has_no_bytes(opened: Opened) -> None:
    archive = _raw(tars.file("a/", 512), at156=b"\0") + tars.file("b", 0) + tars.END
    assert [(entry.path, entry.kind) for entry in _read(opened(archive))] == [("a", "directory"), ("b", "file")]
