"""Frames into a file: whole or not at all, with what made them written into it. The one door to the output formats.

The suffix decides the format (`runtime.formats`). Knows nothing of models or of HTTP.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime import __version__, video_formats
from runtime.formats import Format, format_of
from runtime.models import ModelSpec
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem
from runtime.video_formats import Frames


def write_video(path: Path, frames: Frames, spec: ModelSpec, request: GenerationRequest) -> None:
    """Writes the whole file, or nothing at all.

    Args:
        path: Where the video will be, its suffix one of a format; its directory exists.
        frames: Shape (frames, height, width, 3), both sides even.
        spec: The model that made them, for the metadata.
        request: What was asked for, for the frame rate and the metadata.

    Raises:
        InvalidOption: The suffix is of no format.
        RuntimeProblem: The disk is full, or the place cannot be written.
    """
    form = format_of(path)
    write = getattr(video_formats, form.writer)
    with _whole(path) as partial:
        write(partial, frames, request.fps, _settings(form, spec, request))


def read_settings(path: Path) -> dict[str, Any]:
    """What `write_video` wrote into the file about how it was made; empty if it was not made by us.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4)
    try:
        found = json.loads(video_formats.read_comment(path, head))
    except Exception:  # noqa: BLE001 - a decoder fed with a file of another origin may raise anything
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A place beside `path` that becomes `path` when what was written there is on disk, and else is gone."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
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


def _settings(form: Format, spec: ModelSpec, request: GenerationRequest) -> dict[str, Any]:
    made_by = f"i2v-setup {__version__}"
    asked = {**asdict(request), "output_format": form.name}  # the suffix has decided
    return {"model": spec.id, "model_digest": spec.digest, "made_by": made_by, **asked}
