import gzip
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard

from images.blobs import PIECE
from images.errors import ImageError
from images.oci import LAYER, LAYER_GZIP, LAYER_ZSTD, Descriptor
from images.unpack import is_packed, unpack

_GZIP, _ZSTD = (Descriptor(kind, "sha256:0", 0) for kind in (LAYER_GZIP, LAYER_ZSTD))
_Pack = Callable[[bytes], bytes]
_KINDS = pytest.mark.parametrize(("kind", "pack"), [(_GZIP, gzip.compress), (_ZSTD, zstandard.compress)])


def _pieces(content: bytes, size: int = 1000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@_KINDS
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_what_was_packed_comes_out_in_pieces_that_are_not_large(size: int, kind: Descriptor, pack: _Pack) -> None:
    content = b"abc" * PIECE + b"end"
    found = list(unpack(kind, _pieces(pack(content), size), "it"))
    assert b"".join(found) == content
    assert max(map(len, found)) <= PIECE


@_KINDS
def test_several_one_after_another_are_one(kind: Descriptor, pack: _Pack) -> None:
    packed = pack(b"one") + pack(b"") + pack(b"two")
    assert b"".join(unpack(kind, _pieces(packed, 7), "it")) == b"onetwo"
    assert b"".join(unpack(kind, [packed], "it")) == b"onetwo"


@_KINDS
def test_what_unpacks_to_exactly_some_pieces_is_whole(kind: Descriptor, pack: _Pack) -> None:
    for size in (PIECE, 2 * PIECE):
        assert b"".join(unpack(kind, [pack(bytes(size))], "it")) == bytes(size)


def test_what_is_not_packed_is_handed_on() -> None:
    plain = Descriptor(LAYER, "sha256:0", 0)
    assert (is_packed(plain), is_packed(_GZIP), is_packed(_ZSTD)) == (False, True, True)
    assert list(unpack(plain, [b"some", b"more"], "it")) == [b"some", b"more"]


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
        list(unpack(_GZIP, [packed], "it"))


@pytest.mark.parametrize("packed", [b"no zstd at all", zstandard.compress(b"content")[:3] + bytes(40)])
def test_what_zstd_cannot_read_is_said(packed: bytes) -> None:
    with pytest.raises(ImageError, match="it cannot be unpacked"):
        list(unpack(_ZSTD, [packed], "it"))


def test_what_zstd_would_take_much_memory_for_is_refused() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=wide).compressobj(size=1 << 29)
    pieces = [packed.compress(bytes(1 << 20)) for _ in range(1 << 9)]
    with pytest.raises(ImageError, match="memory"):
        list(unpack(_ZSTD, [*pieces, packed.flush()], "it"))


@_KINDS
def test_what_unpacks_to_too_much_is_given_up_early(kind: Descriptor, pack: _Pack) -> None:
    taken: list[int] = []
    pieces = unpack(kind, [pack(bytes(64 << 20))], "it", most=2 * PIECE)
    with pytest.raises(ImageError, match="more than"):
        taken.extend(map(len, pieces))
    assert sum(taken) <= 2 * PIECE
