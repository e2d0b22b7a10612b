"""Brings an image into the local Docker engine under a tag, and sends only what the engine lacks.

The engine pulls from a registry that we serve on this machine's loopback. One that cannot reach that (Docker Desktop, a
remote host, a network namespace of its own) is given an archive to load. Either way the image comes under a passing
name, is looked at, and only then gets its tag: a delivery that is killed leaves the tag as it was.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from docker.utils import parse_repository_tag

from images import held, load_archive
from images.engine import Engine, engine_errors
from images.errors import ImageError
from images.failures import explain
from images.loopback_registry import PREFIX, LoopbackRegistry
from images.oci import Image
from images.progress import Failure

_UNREACHABLE = re.compile(r"connection refused|no route to host|i/o timeout|network is unreachable", re.IGNORECASE)
_LACKS = re.compile(r"no such file|not found", re.IGNORECASE)
_LONGEST = 300
_AGAIN = "see what the engine says (docker info, its log), then try again: what it has is not sent twice"


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


class _Refused(Exception):
    """The engine said no, in its own words."""


def deliver(engine: Engine, image: Image, tag: str, on_bytes: Callable[[int], None]) -> Delivered:
    """Have the engine hold `image` as `tag`. Run again after whatever ended it, it sends what was not sent.

    Args:
        engine: Where to.
        image: What; its blobs may be larger than memory.
        tag: Its name there, NAME:TAG.
        on_bytes: Told of every piece that was sent, by any thread.

    Raises:
        ImageError: The engine takes no more, or holds something else afterwards.
    """
    containerd = engine.info().store == "containerd"
    expected = (image.manifest if containerd else image.config).descriptor.digest
    here = held.by_content(engine, image) if containerd else held.by_chain(engine, image)
    try:
        # The older store pulls layers that it has unless it had them from a registry; an archive spares it those.
        delivered = None if here and not containerd else _pull(engine, image, expected, on_bytes)
        delivered = delivered or _load(engine, image, expected, here, on_bytes)
        _check(engine, image, expected)
        _name(engine, expected, tag)
    finally:
        _forget_passing_names(engine, expected)
    return delivered


def _pull(engine: Engine, image: Image, expected: str, on_bytes: Callable[[int], None]) -> Delivered | None:
    """Have the engine pull it from us; None if it cannot reach us."""
    with LoopbackRegistry(image, on_bytes) as registry:
        try:
            with engine_errors("hand the image to the engine"):
                answers = engine.client.api.pull(registry.repository, registry.tag, stream=True, decode=True)
                _follow(answers)
        except _Refused as refusal:
            if registry.failures:
                raise ImageError(next(iter(registry.failures.values())), _AGAIN) from None
            if _UNREACHABLE.search(str(refusal)):
                return None
            raise _explained(str(refusal)) from None
        return Delivered(expected, registry.sent, "pull")


def _load(
    engine: Engine, image: Image, expected: str, here: Collection[str], on_bytes: Callable[[int], None]
) -> Delivered:
    """Give the engine an archive, without the layers that it has; with all of them if it has them not after all."""
    sent: Counter[str] = Counter()

    def count(digest: str, size: int) -> None:
        sent[digest] += size
        on_bytes(size)

    passing = f"{PREFIX}/{secrets.token_hex(16)}:image"
    try:
        with engine_errors("load the image into the engine"):
            archive = load_archive.stream(image, passing, here, count)
            _follow(engine.client.api.load_image(archive))  # type: ignore[no-untyped-call]
    except _Refused as refusal:
        if here and _LACKS.search(str(refusal)):
            return _load(engine, image, expected, (), on_bytes)
        raise _explained(str(refusal)) from None
    return Delivered(expected, dict(sent), "load")


def _follow(answers: Iterable[Mapping[str, Any]]) -> None:
    for answer in answers:
        if error := answer.get("error"):
            raise _Refused(str(error))


def _explained(said: str) -> ImageError:
    if "no space left" in said:
        return explain(Failure("", (said,)))
    return ImageError(f"the engine did not take the image: {said.strip()[:_LONGEST]}", _AGAIN)


def _check(engine: Engine, image: Image, expected: str) -> None:
    found = engine.find(expected)
    if found is None or found.diff_ids != tuple(layer.diff_id for layer in image.layers):
        raise ImageError("the engine holds another image than the one that it was given", _AGAIN)


def _name(engine: Engine, image_id: str, tag: str) -> None:
    repository, name = parse_repository_tag(tag)
    with engine_errors(f"name the image {tag}"):
        engine.client.images.get(image_id).tag(repository, name or "latest")


def _forget_passing_names(engine: Engine, image_id: str) -> None:
    """Those of deliveries of this image that were killed too; its layers stay, for it has its tag by now."""
    image = engine.find(image_id)
    for name in image.tags if image else ():
        if f"{PREFIX}/" in name:
            engine.untag(name)
