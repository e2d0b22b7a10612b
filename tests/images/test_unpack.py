import gzip
import zlib
from collections.abc import Iterator

import pytest

from images.blobs import PIECE
from images.errors import ImageError
from images.unpack import gunzip


def _pieces(content: bytes, size: int = 1000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_what_was_packed_comes_out_in_pieces_that_are_not_large(size: int) -> None:
    content = b"abc" * PIECE + b"end"
    found = list(gunzip(_pieces(gzip.compress(content), size), "it"))
    assert b"".join(found) == content
    assert max(map(len, found)) <= PIECE


def test_several_one_after_another_are_one() -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    assert b"".join(gunzip(_pieces(packed, 7), "it")) == b"onetwo"
    assert b"".join(gunzip([packed], "it")) == b"onetwo"


def test_what_unpacks_to_exactly_some_pieces_is_whole() -> None:
    for size in (PIECE, 2 * PIECE):
        assert b"".join(gunzip([gzip.compress(bytes(size))], "it")) == bytes(size)


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (gzip.compress(b"content")[:-1], "ends early"),
        (gzip.compress(b"content" * 100)[:10], "ends early"),
        (zlib.compress(b"content"), "incorrect header"),
        (gzip.compress(b"content") + b"more", "incorrect header"),
        (gzip.compress(b"content")[:-8] + bytes(8), "incorrect data check"),
    ],
)
def test_what_is_damaged_is_said(packed: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        list(gunzip([packed], "it"))


def test_what_unpacks_to_too_much_is_given_up_early() -> None:
    taken: list[int] = []
    pieces = gunzip([gzip.compress(bytes(64 << 20))], "it", most=2 * PIECE)
    with pytest.raises(ImageError, match="more than"):
        taken.extend(map(len, pieces))
    assert sum(taken) <= 2 * PIECE
