"""A base image with the weights below it, for builds to go on from.

It is put together and delivered once for each pair of weights and base. Later builds find it in the engine, so that
nothing of the weights is read, copied or sent by them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from docker.errors import APIError, NotFound
from docker.utils import parse_repository_tag

from images import layout
from images.deliver import deliver
from images.engine import Engine, Image, engine_errors
from images.failures import explain
from images.oci import Layer, compose
from images.progress import Failure
from images.rates import Rate

#: The repository of such images in the engine.
REPOSITORY = "i2v-weights"


def with_weights_below(
    engine: Engine, base: str, weights: Sequence[Layer], scratch: Path, on_line: Callable[[str], None]
) -> tuple[str, frozenset[str]]:
    """The tag of the base image with these layers below its own, and the digests of what had to be sent for it.

    Args:
        engine: Where it is, afterwards.
        base: The base image; one that the engine has not is pulled.
        weights: The layers, bottom first.
        scratch: A directory for the base image's own layers, while they are needed.
        on_line: Told of what takes its time.

    Raises:
        ImageError: The base image cannot be had, or the engine does not take the image.
    """
    below = present(engine, base, on_line)
    diff_ids = (*(layer.diff_id for layer in weights), *below.diff_ids)
    tag = f"{REPOSITORY}:{hashlib.sha256(' '.join((*diff_ids, below.id)).encode()).hexdigest()[:16]}"
    found = engine.find(tag)
    if found is not None and found.diff_ids == diff_ids:
        return tag, frozenset()
    on_line(f"bring {len(weights)} layers of weights into the engine, below {base}")
    own = layout.read_stream(engine.save(base), scratch, name=f"the base image {base}")
    image = compose(json.loads(own.config.content), (*weights, *own.layers))
    return tag, frozenset(deliver(engine, image, tag, Rate("given to the engine", on_line)).sent)


def present(engine: Engine, base: str, on_line: Callable[[str], None]) -> Image:
    """The base image, pulled if the engine has it not.

    Raises:
        ImageError: It cannot be had.
    """
    found = engine.find(base)
    if found is not None:
        return found
    on_line(f"pull the base image {base}")
    repository, tag = parse_repository_tag(base)
    with engine_errors(f"pull {base}"):
        try:
            engine.client.images.pull(repository, tag or "latest")
        except (APIError, NotFound) as error:
            raise explain(Failure("load metadata", (str(error.explanation or error),))) from error
    return engine.image(base)
