"""The layers of an image that the engine built, for whom the engine's own would be too slow to have.

`docker save` gives an image whole: a changed line takes as long as all the packages. An image's directories can be had
one by one. So the Dockerfile says in a label which directories it fills, and each part becomes a layer of ours, above
those of the base image. All parts but the first are one layer each, the topmost ones; a part is known by its layers and
those below it. The same files become the same layers on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from images import layout, tars
from images.engine import Engine
from images.errors import ImageError
from images.image_files import Reader, opened
from images.notes import Notes
from images.oci import Image, Layer
from images.packing import Packer
from images.spec import PARTS_LABEL
from images.unpack import unpacked


@dataclass(frozen=True)
class Part:
    """Some directories of an image that change together."""

    name: str
    directories: tuple[str, ...]


def parts_of(labels: Mapping[str, str]) -> tuple[Part, ...]:
    """The parts of an image, lowest first, as its label has them: `NAME=DIRECTORY,DIRECTORY NAME=DIRECTORY`.

    Raises:
        ImageError: It names none.
    """
    rows = (row.partition("=") for row in labels.get(PARTS_LABEL, "").split())
    found = tuple(Part(name, tuple(directories.split(","))) for name, _, directories in rows)
    if not found:
        raise ImageError(f"the image has no label {PARTS_LABEL}", "see the Dockerfile of i2v-setup for what it says")
    return found


@contextmanager
def layers(
    engine: Engine, tag: str, base: str, notes: Notes, scratch: Path, on_bytes: Callable[[int], None]
) -> Iterator[tuple[Layer, ...]]:
    """The image's layers, to be read within the block.

    Args:
        engine: Has the image, and the one that it was built on.
        tag: The image.
        base: What it was built on.
        notes: What became of layers before.
        scratch: Where they are put as they are packed.
        on_bytes: Told of the bytes of files as they are read.

    Raises:
        ImageError: The engine does not give what is needed.
    """
    image, below = engine.image(tag), engine.image(base)
    if image.diff_ids[: len(below.diff_ids)] != below.diff_ids:
        raise ImageError(f"{base} is another image by now than the build had", "build again")
    packer = Packer(scratch / "packed", notes, on_bytes)
    saved = _Saved(engine, base, scratch / "base")
    named = parts_of(image.labels)
    with opened(engine, tag) as read:

        def layer(part: Part, above: int) -> Layer:
            decided_by = image.diff_ids[: len(image.diff_ids) - above]
            name = (part.name, *part.directories, *decided_by)
            return packer.layer(name, f"i2v-setup: {part.name}", _tar(read, part))

        yield (
            *(
                packer.layer((diff_id,), f"FROM {base}", partial(saved.tar, number))
                for number, diff_id in enumerate(below.diff_ids)
            ),
            *(layer(part, above) for part, above in zip(named, reversed(range(len(named))), strict=True)),
        )


def _tar(read: Reader, part: Part) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        for directory in part.directories:
            yield from read(directory)
        yield tars.END

    return pieces


class _Saved:
    """The base image's layers, had from the engine all at once when the first of them is wanted."""

    def __init__(self, engine: Engine, base: str, directory: Path) -> None:
        self._engine = engine
        self._base = base
        self._directory = directory
        self._image: Image | None = None

    def tar(self, number: int) -> Iterator[bytes]:
        if self._image is None:
            saved = self._engine.save(self._base)
            self._image = layout.read_stream(saved, self._directory, name=f"the base image {self._base}")
        return unpacked(self._image.layers[number])
