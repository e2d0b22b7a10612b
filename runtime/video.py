"""Frames into an MP4 that browsers play: H.264, yuv420p, BT.709, the index in front.

What made the video is written into it. Knows nothing of models or of HTTP.
"""

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from runtime import __version__
from runtime.models import ModelSpec
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem


def write_mp4(path: Path, frames: npt.NDArray[np.uint8], spec: ModelSpec, request: GenerationRequest) -> None:
    """Writes the whole file, or nothing at all.

    Args:
        path: Where the video will be; its directory exists.
        frames: Shape (frames, height, width, 3), both sides even.
        spec: The model that made them, for the metadata.
        request: What was asked for, for the frame rate and the metadata.

    Raises:
        RuntimeProblem: The disk is full, or the place cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(partial, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            container.metadata.update(_metadata(spec, request))
            _encode(container, frames, request.fps)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:  # PyAV's own are of this family
        raise RuntimeProblem(
            f"{path} cannot be written: {error.strerror or error}", "make room, or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read_settings(path: Path) -> dict[str, Any]:
    """What `write_mp4` wrote into the file about how it was made; empty if it was not made by us."""
    with av.open(path) as container:
        try:
            return dict(json.loads(container.metadata.get("comment", "{}")))
        except ValueError:
            return {}


def _metadata(spec: ModelSpec, request: GenerationRequest) -> dict[str, str]:
    made_by = f"i2v-setup {__version__}"
    comment = {"model": spec.id, "model_digest": spec.digest, "made_by": made_by, **asdict(request)}
    return {"title": request.prompt, "comment": json.dumps(comment, ensure_ascii=False)}


def _encode(container: Any, frames: npt.NDArray[np.uint8], fps: int) -> None:
    stream = container.add_stream("libx264", rate=fps, options={"crf": "17", "preset": "medium"})
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    # Said in the file, so that every player shows the same colours.
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.color_primaries = ColorPrimaries.BT709
    stream.codec_context.color_trc = ColorTrc.BT709
    for pixels in frames:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        yuv = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        container.mux(stream.encode(yuv))
    container.mux(stream.encode(None))
