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


@pytest.mark.parametrize(
    "record", ["path", "99 path=x\n", "1 path=x\n", "-9 path=x\n", "0 path=x\n", "8 size=\n", "12 size=-512\n"]
)
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
