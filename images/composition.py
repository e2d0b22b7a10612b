"""Puts an image together of blobs: the weights, and what the engine built beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from images import layout, parts, passing
from images.application import Application
from images.image_files import config_of
from images.notes import Notes
from images.oci import Bytes, Image, Layer, compose
from images.rates import Rate

#: Gives the layers of what the engine built under a tag, as long as a block lasts.
Rest = Callable[[Application, str], AbstractContextManager[tuple[Layer, ...]]]


@contextmanager
def composed(application: Application, weights: Sequence[Layer], rest: Rest) -> Iterator[tuple[Image, Bytes]]:
    """The whole image, as blobs, within the block: what the engine built, and the weights put below it or on top.

    With it, the list of what is in it.

    Args:
        application: What is built, in an engine that keeps it under a passing name as long as the block lasts.
        weights: The model's layers.
        rest: What becomes of what was built.

    Raises:
        ImageError: It cannot be built, or the engine does not give it.
    """
    spec, engine = application.spec, application.engine
    built = passing.name()
    listed = application.build(spec.base_image, weights, built)
    with ExitStack() as stack:
        stack.callback(passing.sweep, engine)
        stack.callback(engine.untag, built)
        with application.clock.phase("read from the engine"):
            own = stack.enter_context(rest(application, built))
        yield compose(config_of(engine, built), (*own, *weights) if spec.on_top else (*weights, *own)), listed


@contextmanager
def as_built(application: Application, tag: str) -> Iterator[tuple[Layer, ...]]:
    """The engine's own layers, for the engine: it has them, and other images of it share them."""
    saved = application.engine.save(tag)
    yield layout.read_stream(saved, application.directory / "rest", name="what the engine built").layers


def as_parts(notes: Path, application: Application, tag: str) -> AbstractContextManager[tuple[Layer, ...]]:
    """Layers that are the same wherever they are built, and that are read only where somebody lacks them."""
    rate = Rate("read from the engine", application.on_line)
    base, directory = application.spec.base_image, application.directory
    return parts.layers(application.engine, tag, base, Notes(notes), directory, rate)
