"""Layers that are packed, remembered, and packed again only where they are read."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.blobs import PIECE
from images.errors import ImageError
from images.notes import Notes
from images.oci import LAYER_ZSTD
from images.packing import Packer
from images.unpack import unpacked

_CONTENT = b"".join(b"%d\n" % number for number in range(500_000))


class _Tar:
    """A tar that says how often it was read."""

    def __init__(self, content: bytes = _CONTENT) -> None:
        self.content = content
        self.asked = 0

    def __call__(self) -> Iterator[bytes]:
        self.asked += 1
        for start in range(0, len(self.content), PIECE):
            yield self.content[start : start + PIECE]


@pytest.fixture
def packer(tmp_path: Path) -> Callable[[str], Packer]:
    """Makes packers, each with a directory of its own, that share their notes."""
    return lambda name: Packer(tmp_path / name, Notes(tmp_path / "notes.json"), lambda _count: None)


def test_a_packed_layer_is_what_zstd_itself_unpacks(packer: Callable[[str], Packer], tmp_path: Path) -> None:
    layer = packer("one").layer(("some",), "made by a test", _Tar())
    blob = b"".join(layer.blob.read())
    assert layer.descriptor.media_type == LAYER_ZSTD
    assert layer.descriptor.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.descriptor.size == len(blob) < len(_CONTENT)
    assert layer.diff_id == f"sha256:{hashlib.sha256(_CONTENT).hexdigest()}"
    assert b"".join(unpacked(layer)) == _CONTENT
    (tmp_path / "layer.zst").write_bytes(blob)
    subprocess.run(["zstd", "--decompress", tmp_path / "layer.zst"], check=True, capture_output=True)
    assert (tmp_path / "layer").read_bytes() == _CONTENT


def test_a_known_layer_is_not_read_until_somebody_wants_its_bytes(packer: Callable[[str], Packer]) -> None:
    first, tar = packer("one").layer(("some",), "", _Tar()), _Tar()
    again = packer("two").layer(("some",), "", tar)
    assert (again.descriptor, again.diff_id) == (first.descriptor, first.diff_id)
    assert tar.asked == 0
    assert b"".join(again.blob.read(7)) == b"".join(first.blob.read())[7:]
    assert b"".join(again.blob.read()) == b"".join(first.blob.read())
    assert tar.asked == 1


def test_another_name_is_another_layer(packer: Callable[[str], Packer]) -> None:
    packer("one").layer(("some",), "", _Tar())
    tar = _Tar(b"other")
    packer("two").layer(("some", "more"), "", tar)
    assert tar.asked == 1


def test_a_layer_that_is_not_what_it_was_is_refused_once(packer: Callable[[str], Packer]) -> None:
    packer("one").layer(("some",), "", _Tar())
    changed = packer("two").layer(("some",), "the packages", _Tar(b"changed"))
    with pytest.raises(ImageError, match="the packages is not what it was"):
        list(changed.blob.read())
    tar = _Tar(b"changed")
    assert b"".join(unpacked(packer("three").layer(("some",), "", tar))) == b"changed"
    assert tar.asked == 1


@pytest.mark.parametrize("noted", ["", "[]", '{"x": 1}', "no json", '["sha256:1", 2, "sha256:2"]'])
def test_notes_that_make_no_sense_cost_time_only(noted: str, packer: Callable[[str], Packer], tmp_path: Path) -> None:
    packer("one").layer(("some",), "", _Tar())
    path = tmp_path / "notes.json"
    try:
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), json.loads(noted))))
    except ValueError:
        path.write_text(noted)
    tar = _Tar()
    assert b"".join(unpacked(packer("two").layer(("some",), "", tar))) == _CONTENT
    assert tar.asked == 1
