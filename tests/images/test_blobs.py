import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from images.blobs import PIECE, FilePart, PartsBlob, Stamp, hashing, verified
from images.errors import ImageError
from images.oci import LAYER, Bytes, Descriptor, digest_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * PIECE + 5))
    return path


def _part(path: Path) -> FilePart:
    return FilePart(path, 0, path.stat().st_size, Stamp.of(path.stat()))


def _blob(path: Path) -> PartsBlob:
    content = b"head" + path.read_bytes() + b"tail"
    return PartsBlob(Descriptor(LAYER, digest_of(content), len(content)), (b"head", _part(path), b"", b"tail"))


@pytest.mark.parametrize("offset", [0, 3, 4, 5, PIECE, 3 * PIECE + 8, 3 * PIECE + 9, 3 * PIECE + 12, 3 * PIECE + 13])
def test_a_blob_is_read_from_any_offset(source: Path, offset: int) -> None:
    whole = b"head" + source.read_bytes() + b"tail"
    assert b"".join(_blob(source).read(offset)) == whole[offset:]


def test_small_pieces_are_joined() -> None:
    blob = PartsBlob(Descriptor(LAYER, "", 0), (b"ab",) * PIECE)
    sizes = [len(piece) for piece in blob.read()]
    assert sizes == [PIECE, PIECE]


def test_several_threads_read_at_once(source: Path) -> None:
    blob = _blob(source)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda offset: b"".join(blob.read(offset)), range(8)))
    whole = b"head" + source.read_bytes() + b"tail"
    assert read == [whole[offset:] for offset in range(8)]


def test_a_file_that_shrank_is_refused(source: Path) -> None:
    blob = _blob(source)
    os.truncate(source, 100)
    with pytest.raises(ImageError, match="source was changed while it was in use"):
        list(blob.read())


def test_a_file_that_shrinks_while_it_is_read_is_refused(source: Path) -> None:
    pieces = _blob(source).read()
    next(pieces)
    os.truncate(source, 100)
    with pytest.raises(ImageError, match="changed"):
        list(pieces)


def test_a_file_that_is_rewritten_while_it_is_read_is_refused(source: Path) -> None:
    pieces, before = _blob(source).read(), source.stat()
    next(pieces)
    with source.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(source, ns=(0, before.st_mtime_ns + 1))
    with pytest.raises(ImageError, match="changed"):
        list(pieces)


def test_a_file_that_was_swapped_for_one_of_its_size_and_time_is_refused(source: Path) -> None:
    blob, before = _blob(source), source.stat()
    other = source.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(0, before.st_mtime_ns))
    other.replace(source)
    with pytest.raises(ImageError, match="changed"):
        list(blob.read())


def test_a_file_that_is_gone_is_named(source: Path) -> None:
    blob = _blob(source)
    source.unlink()
    with pytest.raises(ImageError, match=r"cannot read .*source: No such file"):
        list(blob.read())


def test_pieces_are_hashed_as_they_pass() -> None:
    digest, pieces = hashlib.sha256(), [os.urandom(1000) for _ in range(50)]
    assert list(hashing(pieces, digest)) == pieces
    assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()


@pytest.mark.parametrize("change", [{"size": 6}, {"digest": digest_of(b"other")}])
def test_bytes_that_are_not_what_they_are_said_to_be_are_refused(change: dict[str, int | str]) -> None:
    right = Descriptor(LAYER, digest_of(b"bytes"), 5)
    assert list(verified(Bytes(right, b"bytes"))) == [b"bytes"]
    with pytest.raises(ImageError, match="damaged"):
        list(verified(Bytes(replace(right, **change), b"bytes")))  # type: ignore[arg-type]
