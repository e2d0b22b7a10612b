"""Brings an image into the local Docker engine under a tag, and sends only what the engine lacks.

The engine pulls from a registry that we serve on this machine's loopback. One that cannot reach that (Docker Desktop, a
remote host, a network namespace of its own) is given an archive to load. Either way the image comes under a passing
name, is looked at, and only then gets its tag: a delivery that is killed leaves the tag as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import requests
from docker.errors import APIError, DockerException, ImageNotFound
from docker.utils import parse_repository_tag

from images import held, load_archive
from images.engine import Engine, engine_errors, error_in
from images.errors import EngineUnavailable, ImageError
from images.failures import full_disk
from images.loopback_registry import PREFIX, LoopbackRegistry
from images.oci import Image

_AGAIN = "see what the engine's log says, then try again: what the engine has is not sent twice"
_LACKS = ("no such file or directory", "not found")  # how the two stores say that they lack a layer


@dataclass(frozen=True)
class Delivered:
    """An image that the engine has.

    Attributes:
        image_id: The engine's name for it.
        sent: The bytes that went to the engine, by blob; what it had is not named.
        how: Whether the engine pulled it, or was given an archive.
    """

    image_id: str
    sent: Mapping[str, int]
    how: Literal["pull", "load"]


def deliver(engine: Engine, image: Image, tag: str, on_bytes: Callable[[int], None]) -> Delivered:
    """Have the engine hold `image` as `tag`. Run again, whatever ended it, it sends what the engine still lacks.

    Args:
        engine: Where to.
        image: What; its blobs may be larger than memory.
        tag: Its name there.
        on_bytes: Told of every piece of a blob that was sent, by any thread.

    Raises:
        ImageError: The engine does not take it, or holds something else afterwards.
    """
    containerd = engine.info().store == "containerd"
    wanted = _Wanted(image, tag, (image.manifest if containerd else image.config).descriptor.digest)
    _check_name(engine, tag)
    # The older store pulls a layer again that it got by building; left out of an archive, it is not missed.
    here = frozenset[str]() if containerd else held.by_chain(engine, image)
    if not _mostly(here, image):
        pulled = _pull(engine, wanted, on_bytes)
        if pulled is not None:
            return Delivered(wanted.image_id, pulled, "pull")
    if containerd:
        here = held.by_content(engine, image)
    return Delivered(wanted.image_id, _load(engine, wanted, here, on_bytes), "load")


@dataclass(frozen=True)
class _Wanted:
    """What the engine shall hold, under which tag, and what its store will call it."""

    image: Image
    tag: str
    image_id: str


def _mostly(here: Collection[str], image: Image) -> bool:
    """Whether the engine has most of the image, by size."""
    sizes = {layer.descriptor.digest: layer.descriptor.size for layer in image.layers}
    return 2 * sum(sizes[digest] for digest in here) > sum(sizes.values())


def _pull(engine: Engine, wanted: _Wanted, on_bytes: Callable[[int], None]) -> Mapping[str, int] | None:
    """Let the engine pull the image from us; what was sent, or None if it cannot reach us."""
    with LoopbackRegistry(wanted.image, on_bytes) as registry, _passing(engine, registry.reference):
        repository, tag = parse_repository_tag(registry.reference)
        try:
            with _engine_says():
                for line in engine.client.api.pull(repository, tag=tag, stream=True, decode=True):
                    if registry.failure:  # the engine would ask us again and again
                        break
                    _heed(line)
        except EngineUnavailable:
            raise
        except ImageError as error:
            if not registry.asked:
                return None
            raise registry.failure or error from None
        if registry.failure:
            raise registry.failure
        _accept(engine, wanted)
        return registry.sent


def _load(engine: Engine, wanted: _Wanted, here: Collection[str], on_bytes: Callable[[int], None]) -> Mapping[str, int]:
    """Give the engine the image as an archive, without what is here already; what was sent."""
    api: Any = engine.client.api
    name = f"docker.io/{PREFIX}/{wanted.image.manifest.descriptor.digest.partition(':')[2]}:image"
    sent: Counter[str] = Counter()

    def count(digest: str, size: int) -> None:
        sent[digest] += size
        on_bytes(size)

    def send(without: Collection[str]) -> None:
        with _engine_says(), engine.patience():
            for line in api.load_image(load_archive.stream(wanted.image, name, without, count)):
                _heed(line)

    with _passing(engine, name):
        try:
            send(here)
        except ImageError as error:
            # Another program may have removed an image since we looked.
            if not here or not any(words in str(error) for words in _LACKS):
                raise
            send(())
        _accept(engine, wanted)
    return dict(sent)


def _accept(engine: Engine, wanted: _Wanted) -> None:
    """Give the image its tag, if it is the one."""
    with engine_errors(f"look at the image that became {wanted.tag}"):
        try:
            there = engine.client.images.get(wanted.image_id)
        except ImageNotFound:
            raise ImageError(f"the engine made another image than {wanted.image_id}", _AGAIN) from None
        if there.attrs["RootFS"].get("Layers") != [layer.diff_id for layer in wanted.image.layers]:
            raise ImageError(f"the engine's image {wanted.image_id} has other layers than were sent", _AGAIN)
        engine.client.api.tag(wanted.image_id, *parse_repository_tag(wanted.tag))
        for name in there.tags:  # and of a delivery that was killed
            if f"{PREFIX}/" in name:
                _drop(engine, name)


def _check_name(engine: Engine, tag: str) -> None:
    """Raise `ImageError` if no image can be called so: that should be known before much is sent."""
    with engine_errors(f"use the name {tag}"), suppress(ImageNotFound):
        engine.client.images.get(tag)


@contextmanager
def _passing(engine: Engine, name: str) -> Iterator[None]:
    """A name that an image has within the block at most, so that a failed delivery leaves none behind."""
    try:
        yield
    finally:
        _drop(engine, name)


def _drop(engine: Engine, name: str) -> None:
    """Take a name from an image, which goes with the last one."""
    with suppress(DockerException, requests.RequestException):
        engine.client.api.remove_image(name, noprune=True)


@contextmanager
def _engine_says() -> Iterator[None]:
    """Turns what the engine says of its own, and what docker-py makes of it, into `ImageError`."""
    with engine_errors("hand the image over"):
        try:
            yield
        except APIError as error:
            raise _refusal(str(error.explanation or error)) from error


def _heed(line: Mapping[str, Any]) -> None:
    """Raise `ImageError` if a line of the engine's progress is the end of it."""
    if said := error_in(line):
        raise _refusal(said)


def _refusal(said: str) -> ImageError:
    return full_disk(said) or ImageError(f"the engine does not take the image: {said}", _AGAIN)
