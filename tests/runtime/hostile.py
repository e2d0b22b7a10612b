"""Files that are no still pictures, whatever they say they are, and requests that are no forms."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping

from PIL import Image

from tests.runtime.conftest import PHOTO, encoded

_PNG = b"\x89PNG\r\n\x1a\n"
_MEBIBYTE = 1024 * 1024


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with the right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, bits: int = 8, colours: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced))


def bomb(width: int = 30000, height: int = 30000) -> bytes:
    """A PNG whose header promises what it does not have."""
    return _PNG + header(width, height) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def png(*chunks: bytes, side: int = 32) -> bytes:
    """A small PNG with other chunks before its pixels."""
    pixels = zlib.compress((b"\0" + b"\x80" * 3 * side) * side)
    return _PNG + header(side, side) + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def riff(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header promises so many pixels."""
    content = bytearray(encoded(Image.new("RGB", (32, 32)), "JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    return buffer.getvalue()


_PLAIN = Image.new("RGB", (32, 32))
_PHOTO = PHOTO.read_bytes()
PICTURES: Mapping[str, bytes] = {
    "nothing": b"",
    "a zero byte": b"\0",
    "text": _PNG + b"not really",
    "html": b"<!doctype html><script>alert(1)</script>",
    "html in UTF-16": "<script>alert(1)</script>".encode("utf-16"),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>',
    "xml that grows": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
    "an address": b"http://169.254.169.254/latest/meta-data/",
    "ps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pdf": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
    "zip": zipped(),
    "gzip of a picture": gzip.compress(encoded(_PLAIN)),
    "a program": b"\x7fELF\x02\x01\x01" + b"\0" * 64,
    "a script": b"#!/bin/sh\nid\n",
    "a pickle": b"\x80\x04\x95\x0f\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "bmp": encoded(_PLAIN, "BMP"),
    "tiff": encoded(_PLAIN, "TIFF"),
    "tiff of floats": encoded(Image.new("F", (32, 32)), "TIFF"),
    "ico": encoded(_PLAIN, "ICO"),
    "pcx": encoded(_PLAIN, "PCX"),
    "tga": encoded(_PLAIN, "TGA"),
    "dds": encoded(_PLAIN, "DDS"),
    "ppm": encoded(_PLAIN, "PPM"),
    "gif": animation("GIF"),
    "gif that is a script": b"GIF89a/*" + b"\0" * 16 + b"*/=1;alert(1)",
    "animated webp": animation("WEBP"),
    "animated png": animation("PNG"),
    "bomb": bomb(),
    "bomb under Pillow's own limit": bomb(9000, 9000),
    "bomb of one line": bomb(2**31 - 1, 1),
    "bomb that is interlaced": _PNG + header(20000, 20000, interlaced=1) + chunk(b"IDAT", b""),
    "no width": bomb(0, 30),
    "jpeg bomb": jpeg_of(65500, 65500),
    "webp bomb": riff(b"VP8X", b"\0" * 4 + b"\xff\x3f\0\xff\x3f\0"),
    "webp that ends early": encoded(_PLAIN, "WEBP")[:-8],
    "webp of another size": riff(b"VP8 ", b"\0" * 10, size=2**31),
    "one pixel": encoded(Image.new("RGB", (1, 1))),
    "a line": encoded(Image.new("RGB", (4000, 15))),
    "16 bits": encoded(Image.new("I;16", (32, 32), 40000)),
    "truncated": _PHOTO[:3000],
    "truncated png": encoded(Image.open(PHOTO))[:5000],
    "a wrong checksum": encoded(_PLAIN).replace(b"IDAT", b"IDAX"),
    "pixels that are no zlib": _PNG + header(32, 32) + chunk(b"IDAT", b"\xff" * 64) + chunk(b"IEND", b""),
    "no pixels": _PNG + header(32, 32) + chunk(b"IEND", b""),
    "text that grows": png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 80 * _MEBIBYTE, 9))),
    "international text that grows": png(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"\0" * 80 * _MEBIBYTE, 9))),
    "a chunk without an end": _PNG + header(32, 32) + struct.pack(">I", 2**31 - 1) + b"IDAT" + b"\0" * 99,
    "a header twice too short": _PNG + struct.pack(">I", 5) + b"IHDR" + b"\0" * 9,
}


def requests_that_are_no_forms() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Name, body and headers of each."""
    form = {"Content-Type": "multipart/form-data; boundary=x"}

    def part(disposition: str, content: bytes, more: str = "") -> bytes:
        return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"

    picture = part('name="input_reference"; filename="a.png"', encoded(_PLAIN), "Content-Type: image/png\r\n")
    end = b"--x--\r\n"
    yield "JSON", b'{"prompt": "x"}', {"Content-Type": "application/json"}
    yield "an address's form", b"prompt=x&input_reference=y", {"Content-Type": "application/x-www-form-urlencoded"}
    yield "no type", picture + end, {}
    yield "no boundary", picture + end, {"Content-Type": "multipart/form-data"}
    yield "another boundary", picture + end, {"Content-Type": "multipart/form-data; boundary=y"}
    yield "a very long boundary", picture + end, {"Content-Type": f"multipart/form-data; boundary={'y' * 5000}"}
    yield "nothing at all", b"", form
    yield "no end", picture[:-20], form
    yield "no picture", part('name="prompt"', b"x") + end, form
    yield "the picture as text", part('name="input_reference"', b"x") + end, form
    yield "two pictures", picture + picture + end, form
    yield "no name", picture + part("", b"x") + end, form
    yield "an unknown field", picture + part('name="image_url"', b"http://127.0.0.1/") + end, form
    yield "very many fields", picture + part('name="prompt"', b"x") * 40 + end, form
    yield "a very long field", picture + part('name="prompt"', b"x" * 40_000) + end, form
    yield "a very long prompt", picture + part('name="prompt"', b"x" * 3_000) + end, form
    yield "a prompt with a zero byte", picture + part('name="prompt"', b"a\0b") + end, form
    yield "a header without an end", b"--x\r\nContent-Disposition: form-data; name=" + b"y" * 100_000, form
    yield "a number that is none", picture + part('name="fps"', b"NaN") + end, form
    yield "more than there are", picture + part('name="num_frames"', b"9" * 400) + end, form
    yield "an endless length", picture + part('name="seconds"', b"inf") + end, form
    yield "a size beyond all", picture + part('name="size"', b"99999x99999") + end, form
    yield "larger than may be", b"\0" * (22 * _MEBIBYTE), form
