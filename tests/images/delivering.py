"""Delivers a pickled image: run as a process of its own, so that it can be killed or live in another network."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from pathlib import Path

from images import held
from images.deliver import deliver
from images.engine import Engine, connect
from images.errors import ImageError
from images.oci import Image


def _everything(engine: Engine, image: Image) -> frozenset[str]:
    return frozenset(layer.descriptor.digest for layer in image.layers)


if __name__ == "__main__":
    path, tag, *options = sys.argv[1:]
    image = pickle.loads(Path(path).read_bytes())
    if "mistaken" in options:  # as when an image is removed just after we looked
        held.by_chain = held.by_content = _everything
    try:
        with connect() as engine:
            sys.stdout.write(json.dumps(dataclasses.asdict(deliver(engine, image, tag, lambda _size: None))))
    except ImageError as error:
        sys.exit(f"{error} ({error.hint})")
