"""Which layers of an image an engine has already, so that an archive can leave them out.

Docker's older store knows a layer by the chain of layers that it lies on, the containerd store by its blob.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from docker.errors import DockerException

from images import load_archive
from images.engine import Engine, error_in
from images.loopback_registry import PREFIX
from images.oci import CONFIG, LAYER, MANIFEST, Descriptor, Image, bytes_of

# Nobody can read a layer of this type. An engine says so of a blob that it has; of another it says that it has none.
_UNREADABLE = f"{LAYER}+encrypted"
_PROBE = f"docker.io/{PREFIX}/probe:image"


def by_chain(engine: Engine, image: Image) -> frozenset[str]:
    """The digests of the lowest layers, as far up as another image of the engine has the same ones."""
    diff_ids = [layer.diff_id for layer in image.layers]
    common = max((_common(diff_ids, other.diff_ids) for other in engine.images()), default=0)
    above = {layer.descriptor.digest for layer in image.layers[common:]}
    return frozenset(layer.descriptor.digest for layer in image.layers[:common]) - above


def by_content(engine: Engine, image: Image) -> frozenset[str]:
    """The digests of the layers whose very blobs the engine has, asked for by loads of next to nothing.

    An image of the engine may have the same layer in another compression. That one will not do: the new image would
    run, and what `docker save` and `docker push` make of it would lack the layer, without a word.
    """
    known = {diff_id for other in engine.images() for diff_id in other.diff_ids}
    likely = {layer.descriptor for layer in image.layers if layer.diff_id in known}
    return frozenset(blob.digest for blob in likely if _has(engine, blob))


def _has(engine: Engine, blob: Descriptor) -> bool:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{secrets.token_hex(32)}"]}  # or it might be known as unpacked
    config = bytes_of(CONFIG, {"architecture": "amd64", "os": "linux", "rootfs": rootfs})
    layer = Descriptor(_UNREADABLE, blob.digest, blob.size).document()
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor.document(), "layers": [layer]}
    question = Image(bytes_of(MANIFEST, document), config, ())
    api: Any = engine.client.api
    try:
        said = list(api.load_image(load_archive.stream(question, _PROBE, (), lambda _digest, _size: None)))
    except DockerException as error:
        said = [{"error": str(error)}]
    with suppress(DockerException):
        api.remove_image(_PROBE)
    return any(_UNREADABLE in error_in(line) for line in said)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many items both begin with."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
