"""The formats that a video can be written in, one row each.

Standard library only: the command line and the server's parent process choose among them. How one is written, its
function in `runtime.video_formats` knows, which needs PyAV.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.bounds import InvalidOption


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What a user types.
        suffix: What the file's name ends in, with the dot.
        media_type: What HTTP calls it.
        about: What a user must know to choose.
        writer: The name of its function in `runtime.video_formats`.
    """

    name: str
    suffix: str
    media_type: str
    about: str
    writer: str


_ROWS = (
    Format("mp4", ".mp4", "video/mp4", "H.264, plays everywhere", "write_mp4"),
    Format("webm", ".webm", "video/webm", "VP9", "write_webm"),
    Format("gif", ".gif", "image/gif", "256 colours, loops", "write_gif"),
    Format("png", ".zip", "application/zip", "the frames as PNG", "write_png_zip"),
)

FORMATS: Mapping[str, Format] = {row.name: row for row in _ROWS}
DEFAULT_FORMAT = "mp4"


def format_of(path: Path) -> Format:
    """The format that the suffix of `path` means, in capitals or not.

    Raises:
        InvalidOption: It means none; the message names the suffixes that do.
    """
    for row in _ROWS:
        if path.suffix.lower() == row.suffix:
            return row
    *some, last = (row.suffix for row in _ROWS)
    raise InvalidOption(f"{path} does not end in {', '.join(some)} or {last}", f"the suffix decides: {in_words()}")


def in_words() -> str:
    """All formats in one line, for a person."""
    return ", ".join(f"{row.suffix} ({row.about})" for row in _ROWS)
