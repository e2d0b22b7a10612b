"""How each format of `runtime.formats` is written, and how the settings that made a video are read back out of it.

A writer takes frames of shape (frames, height, width, 3) with even sides, how many of them a second has, and the
settings, and writes one whole file. It uses nothing but its arguments, and no lock of Python's while it is at what
takes long, so it can run in a thread while the next video is denoised. Nothing of the machine gets into the file.
Knows nothing of models, nor of what becomes of half a file (`runtime.video`).
"""

import contextlib
import io
import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image
from PIL.PngImagePlugin import PngInfo

Frames = npt.NDArray[np.uint8]
Settings = Mapping[str, Any]

#: Not the number of cores, which x264 would write into the file; and more would only be in the way of a model that
#: computes on the CPU.
_THREADS = 4
_X264 = {"crf": "17", "preset": "medium"}
#: As sharp as H.264 at 17 (43 dB on a panned photo) in twice its time; one step slower takes twice that, for 0.2 dB.
_VP9 = {"crf": "16", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"}

#: A GIF counts hundredths of a second, and browsers show a frame that has less than two of them for ten.
_GIF_CLOCK = Fraction(1, 100)
_GIF_FASTEST = 50
#: The way that is good for all that was tried; Pillow's are faster, and have too few colours for what is dark, grey or
#: a clear sky. The rectangle halves the file where little moves.
_DITHER = "dither=sierra2_4a:diff_mode=rectangle"
_LOOKED_AT = 3  # every third pixel of every third row finds the same colours in a seventh of the time
_GIF_HEADER = 13  # bytes: the signature and the screen's description, before the palette
_GIF_LOOP = b"!\xff\x0bNETSCAPE2.0"  # and five bytes that say how often
_GIF_BLOCK = 255  # bytes: the longest

_SETTINGS_FILE = "settings.json"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # where its calendar begins


def write_mp4(path: Path, frames: Frames, fps: int, settings: Settings) -> None:
    """H.264, yuv420p, BT.709, the index in front."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        _encode(container, "libx264", _X264, frames, fps, settings)


def write_webm(path: Path, frames: Frames, fps: int, settings: Settings) -> None:
    """VP9, yuv420p, BT.709."""
    # "Bit-exact" leaves out random numbers, so that the same video is the same file.
    with av.open(path, "w", format="webm", options={"fflags": "+bitexact"}) as container:
        _encode(container, "libvpx-vp9", _VP9, frames, fps, settings)


def write_gif(path: Path, frames: Frames, fps: int, settings: Settings) -> None:
    """One palette of 256 colours for all frames, dithered; loops forever.

    At a frame rate that does not divide 100 some frames stay 1/100 s longer than others, so that each begins within
    1/200 s of its time and the whole is as long as it should be. Over 50 frames a second, all frames are there and
    play at 50, slower than they should: browsers play no GIF faster.
    """
    *starts, end = _gif_times(len(frames), fps)
    file = io.BytesIO()
    options = {"loop": "0", "final_delay": str(end - starts[-1])}
    with av.open(file, "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=1 / _GIF_CLOCK, time_base=_GIF_CLOCK)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "pal8"
        for start, frame in zip(starts, _dithered(frames, _palette(frames)), strict=True):
            frame.pts, frame.time_base = start, _GIF_CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    comment = json.dumps(settings).encode("ascii")  # a GIF's comments are made for nothing else
    path.write_bytes(_with_gif_comment(file.getvalue(), comment))


def write_png_zip(path: Path, frames: Frames, _fps: int, settings: Settings) -> None:
    """A ZIP of `frame-0001.png` and so on, not compressed a second time, and `settings.json`."""
    text = PngInfo()
    for name, value in _tags(settings).items():
        text.add_text(name.capitalize(), value)
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for number, pixels in enumerate(frames, 1):
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG", pnginfo=text)
            archive.writestr(_zip_entry(f"frame-{number:04}.png"), png.getvalue())
        listing = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
        archive.writestr(_zip_entry(_SETTINGS_FILE), listing.encode())


def read_comment(path: Path, head: bytes) -> str:
    """The settings that a writer put into a file, or into a picture in its ZIP; or what else stands in their place.

    Args:
        path: The file.
        head: Its first bytes, which say what it is.

    Raises:
        Exception: It is damaged, or of another kind: whatever the libraries say then.
    """
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            return archive.read(_SETTINGS_FILE).decode()
    if head.startswith(b"\x89PNG"):
        with Image.open(path, formats=["PNG"]) as picture:
            return str(picture.info["Comment"])
    with av.open(path) as container:
        return {name.lower(): str(value) for name, value in container.metadata.items()}["comment"]


def _tags(settings: Settings) -> dict[str, str]:
    """What ordinary tools show."""
    return {"title": settings["prompt"], "comment": json.dumps(settings, ensure_ascii=False)}


def _encode(container: Any, codec: str, options: dict[str, str], frames: Frames, fps: int, settings: Settings) -> None:
    container.metadata.update(_tags(settings))
    stream = container.add_stream(codec, rate=fps, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count, context.thread_type = _THREADS, "FRAME"  # else x264 cuts the picture into slices
    # Said in the file, so that every player shows the same colours.
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    for pixels in frames:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        yuv = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        container.mux(stream.encode(yuv))
    container.mux(stream.encode(None))


def _gif_times(count: int, fps: int) -> list[int]:
    """When each frame begins, and when the last one ends, in hundredths of a second, to the nearest."""
    rate = min(fps, _GIF_FASTEST)
    return [(200 * number + rate) // (2 * rate) for number in range(count + 1)]


def _palette(frames: Frames) -> Any:
    """The colours that suit all frames together, as a picture of 16 x 16."""
    some = np.ascontiguousarray(frames[:, ::_LOOKED_AT, ::_LOOKED_AT])
    graph = Graph()
    source, palette, sink = _buffer(graph, some), graph.add("palettegen"), graph.add("buffersink")
    source.link_to(palette)
    palette.link_to(sink)
    graph.configure()
    for frame in _pictures(some):
        source.push(frame)
    source.push(None)
    return sink.pull()


def _dithered(frames: Frames, palette: Any) -> Iterator[Any]:
    """The frames in the colours of the palette, one after the other, so that they are never all in memory."""
    graph = Graph()
    source = _buffer(graph, frames)
    colours = graph.add_buffer(width=16, height=16, format=palette.format.name, time_base=_GIF_CLOCK)
    use, sink = graph.add("paletteuse", _DITHER), graph.add("buffersink")
    source.link_to(use, 0, 0)
    colours.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    palette.pts = 0
    colours.push(palette)
    colours.push(None)
    for frame in itertools.chain(_pictures(frames), [None]):
        source.push(frame)
        yield from _ready(sink)


def _buffer(graph: Any, frames: Frames) -> Any:
    """Where the frames go into a graph."""
    height, width = frames.shape[1:3]
    return graph.add_buffer(width=width, height=height, format="rgb24", time_base=_GIF_CLOCK)


def _pictures(frames: Frames) -> Iterator[Any]:
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = number, _GIF_CLOCK  # any that grows: what they are shown at comes later
        yield frame


def _ready(sink: Any) -> Iterator[Any]:
    """What has come out of a graph by now."""
    with contextlib.suppress(BlockingIOError, EOFError):
        while True:
            yield sink.pull()


def _with_gif_comment(gif: bytes, comment: bytes) -> bytes:
    """Puts a comment, which PyAV's own writer cannot, before the first picture and behind the order to loop."""
    palette = 3 * 2 ** ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0
    here = _GIF_HEADER + palette
    if gif[here:].startswith(_GIF_LOOP):
        here += len(_GIF_LOOP) + 5
    blocks = (comment[at : at + _GIF_BLOCK] for at in range(0, len(comment), _GIF_BLOCK))
    extension = b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return gif[:here] + extension + gif[here:]


def _zip_entry(name: str) -> zipfile.ZipInfo:
    """An entry that says nothing of when or where it was written; stored as it is."""
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix: a plain file, readable by all
    return entry
