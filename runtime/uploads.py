"""A picture from outside, turned into plain RGB pixels or refused before it costs anything.

The one door for pictures: the server's uploads and the command line's files both come through
`read_picture`. Knows nothing of HTTP, of models or of the size of the video.
"""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from runtime.problems import RuntimeProblem

#: What is read; anything else is refused by its first bytes, whatever its name says.
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 20 * 1024 * 1024
#: Forty megapixels are 153 MiB decoded, and more than nearly every camera makes.
MAX_PIXELS = 40_000_000
MIN_SIDE = 16
#: No model here looks at more; larger pictures are made smaller as soon as they are read.
KEPT_SIDE = 2048

_KEPT_AS = "BMP"
_READABLE = "a PNG, JPEG or WebP picture"


class PictureRefused(RuntimeProblem):
    """Not a picture that we read. The messages are fixed: nothing of the file is in them."""


def read_picture(source: BinaryIO) -> Image.Image:
    """Reads one still picture: upright, RGB, at most KEPT_SIDE pixels a side.

    The header decides first: type, size and mode are checked before a single pixel is decoded.

    Raises:
        PictureRefused: Another type, too large, too small, animated, of a depth we do not read, or broken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _check_header is the stricter one
        try:
            with Image.open(source, formats=FORMATS) as picture:
                _check_header(picture)
                return _plain(picture)
        except Image.DecompressionBombError:
            raise _too_many_pixels() from None
        except PictureRefused:
            raise
        except Exception:  # noqa: BLE001 - a decoder fed with hostile bytes may raise anything
            raise PictureRefused("this file is not a picture that can be read", f"send {_READABLE}") from None


def open_picture(path: Path) -> Image.Image:
    """Reads the picture at `path`.

    Raises:
        PictureRefused: No such file, or not a picture that we read.
    """
    try:
        with path.open("rb") as file:
            return read_picture(file)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PictureRefused(f"cannot read the picture {path}: {reason}", f"give the path of {_READABLE}") from None


def to_bitmap(picture: Image.Image) -> bytes:
    """The pixels alone, for `open_kept`: no place where it was taken, no camera, nothing else that came along.

    As BMP, which takes a hundredth of the time of a PNG: that would be most of what the server does for a job.
    """
    buffer = io.BytesIO()
    picture.save(buffer, _KEPT_AS)
    return buffer.getvalue()


def open_kept(path: Path) -> Image.Image:
    """Reads what `to_bitmap` made.

    Raises:
        PictureRefused: It is not there, or not whole.
    """
    try:
        with Image.open(path, formats=(_KEPT_AS,)) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureRefused(f"the picture that was kept cannot be read: {error}", "send the request again") from None


def _check_header(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels()
    if min(width, height) < MIN_SIDE:
        raise PictureRefused("the picture is too small", f"at least {MIN_SIDE} pixels on each side")
    if getattr(picture, "is_animated", False):
        raise PictureRefused("the picture is animated", "send a still picture")
    if picture.mode.startswith(("I", "F")):
        raise PictureRefused("the picture has more than 8 bits a channel", "save it with 8 bits a channel")


def _plain(picture: Image.Image) -> Image.Image:
    picture.draft("RGB", (KEPT_SIDE, KEPT_SIDE))  # lets the JPEG decoder skip what would be thrown away
    # A copy of a picture takes a quarter of the time of its decoding: none is made without need.
    ImageOps.exif_transpose(picture, in_place=True)
    picture.thumbnail((KEPT_SIDE, KEPT_SIDE), reducing_gap=2.0)
    if not picture.has_transparency_data:
        picture.load()
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture.convert("RGBA"))
    return canvas.convert("RGB")


def _too_many_pixels() -> PictureRefused:
    return PictureRefused("the picture has too many pixels", f"at most {MAX_PIXELS // 1_000_000} megapixels")
