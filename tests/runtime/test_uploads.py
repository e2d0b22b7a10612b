import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.uploads import KEPT_SIDE, PictureRefused, open_kept, open_picture, read_picture, to_bitmap
from tests.runtime.conftest import PHOTO, encoded
from tests.runtime.hostile import PICTURES


def read(content: bytes) -> Image.Image:
    return read_picture(io.BytesIO(content))


@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES.keys())
def test_what_is_no_still_picture_is_refused(content: bytes) -> None:
    with pytest.raises(PictureRefused) as raised:
        read(content)
    assert raised.value.hint


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_every_usual_mode_becomes_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    picture = read(encoded(Image.new(mode, (40, 30)), kind))
    assert (picture.mode, picture.size) == ("RGB", (40, 30))


def test_what_is_transparent_becomes_white() -> None:
    assert read(encoded(Image.new("RGBA", (32, 32), (255, 0, 0, 0)))).getpixel((5, 5)) == (255, 255, 255)


def test_a_picture_that_lies_on_its_side_is_put_upright() -> None:
    sideways = Image.new("RGB", (40, 20), "red")
    exif = sideways.getexif()
    exif[0x0112] = 6
    assert read(encoded(sideways, "JPEG", exif=exif)).size == (20, 40)


def test_a_large_photo_is_made_smaller_and_keeps_its_shape() -> None:
    assert read(encoded(Image.new("RGB", (6000, 3000)), "JPEG")).size == (KEPT_SIDE, KEPT_SIDE // 2)


def test_nothing_but_pixels_is_kept() -> None:
    picture = Image.new("RGB", (32, 32))
    exif = picture.getexif()
    exif[0x010F] = "a camera"
    kept = to_bitmap(read(encoded(picture, "JPEG", exif=exif, comment=b"a comment")))
    assert b"camera" not in kept
    assert b"comment" not in kept


def test_the_photo_is_read() -> None:
    assert open_picture(PHOTO).size == (640, 427)


def test_a_path_that_cannot_be_read_is_said_with_its_reason(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.jpg", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(PictureRefused, match=reason):
            open_picture(path)


def test_what_is_kept_comes_back_to_the_last_pixel_and_broken_files_are_said(tmp_path: Path) -> None:
    picture = open_picture(PHOTO)
    (kept := tmp_path / "kept").write_bytes(to_bitmap(picture))
    assert np.array_equal(np.asarray(open_kept(kept)), np.asarray(picture))
    (short := tmp_path / "short").write_bytes(kept.read_bytes()[:5000])
    for path in (short, tmp_path / "none"):
        with pytest.raises(PictureRefused, match="cannot be read"):
            open_kept(path)
