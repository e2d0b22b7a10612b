"""Finds the image that somebody names: a layout on disk, an image of the local engine, or one on a registry."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from images import layout, references
from images.engine import Engine, connect
from images.errors import EngineUnavailable, ImageError
from images.oci import Image
from images.pull import pull
from images.rates import Rate
from images.registry_http import settings
from mirrors.http import HttpSettings


@contextmanager
def open_image(
    text: str, on_line: Callable[[str], None], *, scratch: Path | None = None, http: HttpSettings | None = None
) -> Iterator[Image]:
    """The image of that name, to be read within the block.

    Args:
        text: A path, if there is one; else a name or id that the engine knows; else a reference on a registry.
        on_line: Told of what takes its time.
        scratch: Where there is room for what the engine gives; it is removed afterwards.
        http: How a registry is spoken to.

    Raises:
        ImageError: There is no such image, or it cannot be had.
    """
    if Path(text).exists():
        yield layout.read(Path(text))
        return
    with ExitStack() as stack:
        engine = _engine(stack)
        if engine is not None and engine.find(text) is not None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="i2v-image-", dir=scratch))
            yield layout.read_stream(_followed(engine.save(text), on_line), Path(directory), name=f"the image {text}")
            return
    yield _pulled(text, http, no_engine=engine is None)


def _engine(stack: ExitStack) -> Engine | None:
    try:
        return stack.enter_context(connect())
    except EngineUnavailable:
        return None


def _pulled(text: str, http: HttpSettings | None, *, no_engine: bool) -> Image:
    reference = references.parse(text)
    try:
        return pull(reference, http=settings(http))
    except ImageError as error:
        why = "no Docker engine answers" if no_engine else "the engine has no such image"
        raise ImageError(f"{text} is no file, {why}, and no registry gives it: {error}", error.hint) from error


def _followed(pieces: Iterator[bytes], on_line: Callable[[str], None]) -> Iterator[bytes]:
    rate = Rate("read from the engine", on_line)
    for piece in pieces:
        rate(len(piece))
        yield piece
