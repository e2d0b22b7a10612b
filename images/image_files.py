"""An image of the engine looked into: its configuration, and its directories one by one. Nothing of it is run."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from docker.errors import NotFound

from images import passing, tars
from images.blobs import PIECE
from images.engine import Engine, engine_errors
from images.errors import ImageError
from images.oci import EPOCH
from images.untar import StreamSource

#: Gives the tar entries of a directory of the image, with no end of archive after them.
Reader = Callable[[str], Iterator[bytes]]

# Of what the engine says of an image: the rest is of containers, or of a build that is over.
_CONFIGURED = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
)


def config_of(engine: Engine, reference: str) -> dict[str, Any]:
    """An image's configuration in OCI's form, but for its layers, and with no time of its own.

    Raises:
        ImageError: There is no such image.
    """
    with engine_errors(f"look at the image {reference}"):
        told: dict[str, Any] = engine.client.images.get(reference).attrs
    variant = {"variant": told["Variant"]} if told.get("Variant") else {}
    config = {key: value for key in _CONFIGURED if (value := told["Config"].get(key))}
    return {"architecture": told["Architecture"], "os": told["Os"], **variant, "created": EPOCH, "config": config}


@contextmanager
def opened(engine: Engine, reference: str) -> Iterator[Reader]:
    """What reads the image's directories, as long as the block lasts.

    The entries are in the order of their names, and have no times: the same files are the same bytes.

    Raises:
        ImageError: There is no such image, or, of the reader, no such directory in it, or the engine stops giving it.
    """
    with engine_errors(f"open the image {reference}"):
        labels = {passing.LABEL: passing.owner()}
        container = engine.client.containers.create(reference, entrypoint=["-"], network_disabled=True, labels=labels)

    def read(directory: str) -> Iterator[bytes]:
        with engine_errors(f"read {directory} of the image {reference}"):
            try:
                pieces, _ = container.get_archive(directory, chunk_size=PIECE)
            except NotFound:
                raise ImageError(
                    f"the image {reference} has no {directory}", "its Dockerfile says that it has"
                ) from None
            yield from _without_times(pieces, directory.strip("/").rpartition("/")[0])

    try:
        yield read
    finally:
        with engine_errors(f"close the image {reference}"):
            container.remove(force=True)


def _without_times(pieces: Iterable[bytes], below: str) -> Iterator[bytes]:
    """The entries of the engine's archive of a directory, by their paths in the image."""
    prefix = f"{below}/" if below else ""
    # The engine is our own, so that the standard library may read what it gives.
    with tarfile.open(fileobj=cast(IO[bytes], StreamSource(pieces)), mode="r|", bufsize=PIECE) as archive:
        for member in archive:
            path, rights = prefix + member.name, tars.Rights(member.mode & 0o7777, member.uid, member.gid)
            if member.isdir():
                yield tars.directory(path, rights)
            elif member.issym():
                yield tars.symbolic_link(path, member.linkname, rights)
            elif member.islnk():
                yield tars.hard_link(path, prefix + member.linkname, rights)
            elif member.isreg():
                yield tars.file(path, member.size, rights)
                content = cast(IO[bytes], archive.extractfile(member))
                while piece := content.read(PIECE):
                    yield piece
                yield tars.padding(member.size)
            else:
                raise ImageError(f"the image has a file of its own kind: {path}", "leave it out of the Dockerfile")
