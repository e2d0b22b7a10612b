"""Recomputes what an image claims: its digests, its model's files, its lock, its SBOM. Believes nothing that it reads.

The model's files are held against the list that lies beside them, against the image's labels, and against what our own
catalogue says of that model. An image that claims less is verified as far as it claims something. Knows no engine and
no registry (images.opening does), and says what it found instead of failing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from images import documents, sbom_check
from images.contents import Contents, Found, Read
from images.errors import ImageError
from images.findings import MISSING, UNLISTED, Row, digest_told, same
from images.oci import Bytes, Image, digest_of
from images.spec import (
    LOCK_DIGEST_LABEL,
    LOCK_LABEL,
    MODEL_DIGEST_LABEL,
    MODEL_LABEL,
    SBOM_DIGEST_LABEL,
    SBOM_PATH,
    WEIGHT_LAYERS_LABEL,
    WEIGHTS_LABEL,
)
from runtime.models import INSTALLED, ModelFile, ModelSpec, digest_of_files

_MODEL, _LOCKS = "model", "app/runtime/locks"
_LIST = f"/{_MODEL}/{INSTALLED}"
_CLAIMS = (MODEL_LABEL, MODEL_DIGEST_LABEL, WEIGHT_LAYERS_LABEL, WEIGHTS_LABEL, LOCK_DIGEST_LABEL, SBOM_DIGEST_LABEL)
_NAMED = 3  # files of many that are named


@dataclass(frozen=True)
class Verified:
    """All that was looked at; `ok` if all of it holds."""

    rows: tuple[Row, ...]
    ok: bool


def labels_of(image: Image) -> Mapping[str, str]:
    """An image's labels.

    Raises:
        ImageError: Its configuration is malformed.
    """
    with documents.malformed("the image's configuration"):
        labels = (json.loads(image.config.content).get("config") or {}).get("Labels") or {}
        return {str(name): str(value) for name, value in labels.items()}


def verify(image: Image, expected: ModelSpec | None, on_bytes: Callable[[int], None]) -> Verified:
    """Read all of an image's layers, each once, and see whether they are what the image says.

    Args:
        image: Its labels and lists are taken as claims only.
        expected: What our catalogue knows of the model that the image names; None: nothing.
        on_bytes: Told of the bytes of layers as they are read.

    Raises:
        ImageError: A layer cannot be had, or cannot be unpacked here.
    """
    labels = labels_of(image)
    locked = f"{_LOCKS}/{labels.get(LOCK_LABEL, '')}.txt"
    directories = (_MODEL, _LOCKS, SBOM_PATH, *sbom_check.PACKAGES)
    contents = Contents(directories, frozenset((f"{_MODEL}/{INSTALLED}", SBOM_PATH, locked)))
    reads = [contents.add(layer, on_bytes) for layer in image.layers]
    rows = [*_documents(image), *_layers(image, reads)]
    files = contents.below(_MODEL)
    if not files and not any(label in labels for label in _CLAIMS):
        rows.append(Row("labels and model", "those of an image of i2v-setup", "none", False))
    elif labels.get(WEIGHTS_LABEL) == "mounted":
        rows += _mounted(labels, files, expected)
    elif files or labels.get(MODEL_DIGEST_LABEL):
        rows += _model(labels, files, expected)
    rows += _weight_layers(labels, files, reads)
    rows += _lock(labels, contents.found)
    rows += sbom_check.rows(labels, contents.found, _weights(files), contents.found.get(locked))
    return Verified(tuple(rows), all(row.holds for row in rows))


def _documents(image: Image) -> Iterator[Row]:
    for what, document in (("manifest", image.manifest), ("configuration", image.config)):
        yield same(what, document.descriptor.digest, _digest(document))


def _layers(image: Image, reads: Sequence[Read]) -> Iterator[Row]:
    for number, (layer, read) in enumerate(zip(image.layers, reads, strict=True), 1):
        wanted = layer.descriptor
        found = read.digest if read.size == wanted.size else f"{read.digest}, {read.size} bytes and not {wanted.size}"
        yield same(f"layer {number}", wanted.digest, found)
        if read.trouble or not wanted.digest == layer.diff_id == read.diff_id:
            yield same(f"layer {number}, unpacked", layer.diff_id, read.trouble or read.diff_id)


def _model(labels: Mapping[str, str], files: Mapping[str, Found], expected: ModelSpec | None) -> Iterator[Row]:
    """The files below /model against all that speaks of them."""
    weights = _weights(files)
    try:
        name, listed = _listed(files.get(INSTALLED))
    except ImageError as error:
        yield Row(_LIST, "the list of the model's files", str(error), False)
    else:
        if name and MODEL_LABEL in labels:
            yield same(MODEL_LABEL, labels[MODEL_LABEL], name)
        for path in sorted({*listed, *weights}):
            yield same(f"/{_MODEL}/{path}", listed.get(path, UNLISTED), weights.get(path, MISSING))
    if MODEL_DIGEST_LABEL in labels:
        found = digest_of_files(ModelFile(path, None, sha256) for path, sha256 in weights.items())
        yield same(MODEL_DIGEST_LABEL, labels[MODEL_DIGEST_LABEL], f"sha256:{found}")
    if expected is not None:
        yield _catalogue(expected, weights)


def _mounted(labels: Mapping[str, str], files: Mapping[str, Found], expected: ModelSpec | None) -> Iterator[Row]:
    """There are no weights to verify; only that there are none, and which ones are meant."""
    found = f"{len(files)} files" if files else "empty"
    yield Row(f"/{_MODEL}", "empty: the weights are mounted when it runs", found, not files)
    if expected is not None and expected.complete and MODEL_DIGEST_LABEL in labels:
        what = f"{MODEL_DIGEST_LABEL}, as our catalogue has it"
        yield same(what, labels[MODEL_DIGEST_LABEL], f"sha256:{expected.digest}")


def _catalogue(model: ModelSpec, weights: Mapping[str, str]) -> Row:
    """What is in the image against what we know of the model, whatever the image says."""
    known = {file.path: file for file in model.files}
    wrong = [path for path in weights if path not in known]
    for path, file in known.items():
        absent = path not in weights
        if not file.optional if absent else file.sha256 not in (None, weights[path]):
            wrong.append(path)
    sure = sum(file.sha256 is not None for file in known.values())
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    found = f"otherwise: {', '.join(sorted(wrong)[:_NAMED])}{more}" if wrong else "the same"
    claimed = f"{len(known)} files, {sure} of them by sha256"
    return Row(f"the model {model.id} in our catalogue", claimed, found, not wrong)


def _weight_layers(labels: Mapping[str, str], files: Mapping[str, Found], reads: Sequence[Read]) -> Iterator[Row]:
    """The layers that the files below /model come from have to be those that the label names."""
    if WEIGHT_LAYERS_LABEL in labels:
        found = [reads[number].diff_id for number in sorted({file.layer for file in files.values()})]
        yield same(WEIGHT_LAYERS_LABEL, labels[WEIGHT_LAYERS_LABEL], ",".join(found))


def _lock(labels: Mapping[str, str], found: Mapping[str, Found]) -> Iterator[Row]:
    if LOCK_DIGEST_LABEL in labels:
        path = f"{_LOCKS}/{labels.get(LOCK_LABEL, '')}.txt"
        yield same(f"/{path}", labels[LOCK_DIGEST_LABEL], digest_told(found.get(path)))


def _listed(found: Found | None) -> tuple[str, dict[str, str]]:
    """The name of the model, "" if it has none, and the sha256 of its files, as the list says."""
    if found is None:
        raise ImageError(MISSING)
    with documents.malformed("it"):
        document = json.loads(found.content or b"")
        rows = {str(row["path"]): str(row["sha256"]) for row in document["files"]}
        return str(document.get("model") or ""), rows


def _weights(files: Mapping[str, Found]) -> dict[str, str]:
    """The sha256 of the files below /model, without the list of them."""
    return {path: _told(found) for path, found in files.items() if path != INSTALLED}


def _told(found: Found) -> str:
    return found.sha256 or found.kind


def _digest(document: Bytes) -> str:
    return digest_of(document.content)
