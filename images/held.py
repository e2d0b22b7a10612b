"""Which layers of an image an engine has already, so that they need not be sent.

Docker's older store knows a layer by the chain of layers that it lies on; the containerd store knows it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from images.engine import Engine
from images.oci import Image


def by_chain(engine: Engine, image: Image) -> frozenset[str]:
    """The digests of the lowest layers that another image of the engine begins with as well."""
    diff_ids = [layer.diff_id for layer in image.layers]
    common = max((_common(diff_ids, other) for other in _stacks(engine)), default=0)
    held = {layer.descriptor.digest for layer in image.layers[:common]}
    # The same layer may come again further up, where nothing is known of it.
    return frozenset(held - {layer.descriptor.digest for layer in image.layers[common:]})


def by_content(engine: Engine, image: Image) -> frozenset[str]:
    """The digests of the layers that are in any image of the engine: most likely as the same blobs."""
    known = {diff_id for other in _stacks(engine) for diff_id in other}
    return frozenset(layer.descriptor.digest for layer in image.layers if layer.diff_id in known)


def _stacks(engine: Engine) -> list[tuple[str, ...]]:
    """The diff_ids of every image, bottom first."""
    return [image.diff_ids for image in engine.images()]


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many items both begin with."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
