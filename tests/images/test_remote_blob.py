import os

import pytest

from images.errors import ImageError
from images.oci import LAYER, Descriptor, digest_of
from images.registry import Registry
from images.remote_blob import RemoteBlob
from tests.images.registries import Answers, ScriptedRegistry

_SIZE = 5_000_000


@pytest.fixture
def held(scripted: ScriptedRegistry) -> bytes:
    data = os.urandom(_SIZE)
    scripted.blobs[digest_of(data)] = data
    return data


def _blob(scripted: ScriptedRegistry, held: bytes, size: int = _SIZE) -> RemoteBlob:
    return Registry(scripted.reference()).blob(Descriptor(LAYER, digest_of(held), size))


@pytest.mark.parametrize("offset", [0, 1, 4_999_999, _SIZE])
def test_a_blob_is_read_from_anywhere(scripted: ScriptedRegistry, held: bytes, offset: int) -> None:
    pieces = list(_blob(scripted, held).read(offset))
    assert b"".join(pieces) == held[offset:]
    assert all(len(piece) <= 1 << 20 for piece in pieces)


def test_wrong_bytes_are_never_given_whole(scripted: ScriptedRegistry, held: bytes) -> None:
    scripted.blobs[digest_of(held)] = held[:-1] + bytes([held[-1] ^ 1])
    got = bytearray()

    def read() -> None:
        for piece in _blob(scripted, held).read():
            got.extend(piece)

    with pytest.raises(ImageError, match=r"sends the blob .* wrong: its digest is"):
        read()
    assert len(got) < _SIZE


@pytest.mark.parametrize("offset", [0, 10])
@pytest.mark.parametrize(("size", "why"), [(_SIZE - 1, "larger than"), (_SIZE + 1, "ends after")])
def test_more_or_fewer_bytes_are_refused(
    scripted: ScriptedRegistry, held: bytes, size: int, why: str, offset: int
) -> None:
    with pytest.raises(ImageError, match=rf"{why}|its digest"):
        list(_blob(scripted, held, size).read(offset))


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_is_taken_up_there(scripted: ScriptedRegistry, held: bytes, ranges: bool) -> None:
    breaks = iter((1_000_000, 2_500_000, 10))

    def cut(handler: Answers) -> bool:
        if "/blobs/" not in handler.path:
            return False
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
        handler.send_headers(206 if start else 200, {"Content-Length": str(_SIZE - start)})
        length = next(breaks, _SIZE)
        handler.wfile.write(held[start : start + length])
        handler.close_connection = True
        return True

    scripted.before = cut
    assert b"".join(_blob(scripted, held).read()) == held
    asked = [request.headers.get("Range") for request in scripted.asked("GET", "/blobs/")]
    assert asked[:2] == [None, "bytes=1000000-"]
    assert len(asked) == 4


def test_a_blob_that_is_gone_is_said(scripted: ScriptedRegistry) -> None:
    with pytest.raises(ImageError, match="does not know the blob"):
        list(_blob(scripted, b"never there").read())
