"""Weight layers: a model's files as layers that have the same digests on every machine.

One uncompressed tar for each large file, and one for all the others together; they are put together from the files
themselves whenever they are read, and never written. Nothing in them but paths, sizes and bytes: a change of one file
changes one layer, and no engine copies a file to change its mode or owner. Knows no engine and no registry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from images import tars
from images.blobs import FilePart, PartsBlob, hashing
from images.known_layers import KnownLayers
from images.model_files import PlacedFile, damaged, place
from images.oci import EPOCH, LAYER, Descriptor, Image, Layer, compose, digest_of
from images.spec import MODEL_DIGEST_LABEL, MODEL_LABEL, WEIGHT_LAYERS_LABEL
from runtime.models import INSTALLED, ModelSpec, as_installed

#: A file of more bytes than this has a layer of its own.
LARGE = 64 * 10**6
_ROOT = "model"
_FORMAT = 1  # to be counted up with any change of a layer's bytes: digests that are known are for one format


@dataclass(frozen=True)
class _Member:
    """One file of a layer: its path below the model's directory, and where its bytes are."""

    path: str
    size: int
    sha256: str
    content: bytes | PlacedFile

    @property
    def part(self) -> bytes | FilePart:
        if isinstance(self.content, bytes):
            return self.content
        return FilePart(self.content.path, 0, self.size, self.content.stamp)


def weight_layers(
    model: ModelSpec, model_dir: Path, known: Path, on_bytes: Callable[[int], None] | None = None
) -> tuple[Layer, ...]:
    """The model's files, and the list of them, as layers that put them into /model.

    Files that were not seen before are read once, and held against the sha256 of the model's list.

    Args:
        model: With the sha256 of every file.
        model_dir: Where they lie.
        known: The file that keeps the digests for the next time.
        on_bytes: Told of the bytes of files as they are read.

    Raises:
        ImageError: A file is missing, or is not the one that the model's list names.
    """
    placed = place(model, model_dir)
    members = [_Member(found.file.path, found.stamp.size, str(found.file.sha256), found) for found in placed]
    large = [member for member in members if member.size > LARGE]
    small = [member for member in members if member.size <= LARGE]
    listed = as_installed(model.id, (found.file for found in placed)).encode()
    small.append(_Member(INSTALLED, len(listed), hashlib.sha256(listed).hexdigest(), listed))
    tell = on_bytes or (lambda _count: None)
    cache = KnownLayers(known)

    def layer(members: Sequence[_Member], title: str) -> Layer:
        name, stamps = _name(members), [m.content.stamp for m in members if isinstance(m.content, PlacedFile)]
        digest = cache.recall(name, stamps)
        if digest is None:
            digest = _digest(model, model_dir, members, tell)
            cache.keep(name, stamps, digest)
        parts = tuple(part for part, _ in _parts(members))
        size = sum(len(part) if isinstance(part, bytes) else part.size for part in parts)
        return Layer(PartsBlob(Descriptor(LAYER, digest, size), parts), digest, f"i2v-setup: weights, {title}")

    return (*(layer([member], member.path) for member in large), layer(small, f"{len(small)} small files"))


def weights_image(model: ModelSpec, layers: Sequence[Layer]) -> Image:
    """The model's files alone, as an image to mount. It is the same on every machine, and fits every machine.

    Args:
        model: With the sha256 of every file.
        layers: As `weight_layers` gives them.
    """
    config = {
        # Weights are for any processor; a configuration has to name one, and always the same.
        "architecture": "amd64",
        "os": "linux",
        "created": EPOCH,
        "config": {"Labels": dict(weight_labels(model, layers))},
    }
    return compose(config, layers)


def weight_labels(model: ModelSpec, layers: Sequence[Layer]) -> Mapping[str, str]:
    """What is said of the weights in an image's labels."""
    return {
        MODEL_LABEL: model.id,
        MODEL_DIGEST_LABEL: f"sha256:{model.digest}",
        "i2v-setup.model.licence": model.licence or "not named by its publisher",
        WEIGHT_LAYERS_LABEL: ",".join(layer.descriptor.digest for layer in layers),
    }


def _name(members: Sequence[_Member]) -> str:
    """Names a layer by all that decides its bytes."""
    rows = [[member.path, member.size, member.sha256] for member in members]
    return digest_of(json.dumps([_FORMAT, rows]).encode())


def _parts(members: Sequence[_Member]) -> list[tuple[bytes | FilePart, _Member | None]]:
    """The tar of these files, in order; beside a part that is a file's content, that file."""
    paths = [PurePosixPath(_ROOT, member.path) for member in members]
    directories = {parent for path in paths for parent in path.parents if parent.name}
    parts: list[tuple[bytes | FilePart, _Member | None]] = []
    before = b"".join(tars.directory(str(path)) for path in sorted(directories))
    for path, member in zip(paths, members, strict=True):
        parts += [(before + tars.file(str(path), member.size), None), (member.part, member)]
        before = tars.padding(member.size)
    return [*parts, (before + tars.END, None)]


def _digest(model: ModelSpec, model_dir: Path, members: Sequence[_Member], on_bytes: Callable[[int], None]) -> str:
    """The digest of the layer, from one reading of the files. Each is seen to be the one that it should be."""
    whole = hashlib.sha256()
    for part, member in _parts(members):
        if isinstance(part, bytes):
            whole.update(part)
            continue
        own = hashlib.sha256()
        for piece in hashing(part.read(), whole):
            own.update(piece)
            on_bytes(len(piece))
        if member and own.hexdigest() != member.sha256:
            raise damaged(model, model_dir, part.path)
    return f"sha256:{whole.hexdigest()}"
