"""An image without weights that is there already, and what it becomes with a model's weights in it.

It lies on a registry or on disk, and only its documents are read here: its layers go as they are from there to wherever
the new image goes. Nothing is built, so no engine is needed, and the same image and model make the same image anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from images import layout, references, tars
from images.documents import MAX_DOCUMENT, malformed
from images.errors import ImageError
from images.layers import weight_labels
from images.oci import LAYER, Bytes, Descriptor, Image, Layer, compose, digest_of
from images.pull import pull
from images.registry_errors import RegistryError
from images.registry_http import settings
from images.spec import (
    LOCK_LABEL,
    MODEL_DIGEST_LABEL,
    MODEL_LABEL,
    SBOM_DIGEST_LABEL,
    SBOM_PATH,
    VERSION_LABEL,
    WEIGHTS_LABEL,
    PlannedStep,
    Slim,
)
from images.unpack import unpacked
from images.untar import StreamSource, entries
from images.verify import labels_of
from mirrors.http import HttpSettings
from runtime import __version__
from runtime.models import ModelSpec

_MODEL_VARIABLE = "I2V_MODEL_ID="
_MAKE_ONE = "make one where there is an engine: i2v-setup build-image --weights mounted --push REF"


def find(name: str, architecture: str, http: HttpSettings | None = None) -> Slim:
    """The image of that name, which weights can be put into.

    Args:
        name: A path, if there is one; else a reference on a registry.
        architecture: What it has to be for, as OCI calls it ("amd64", "arm64").
        http: How a registry is spoken to.

    Raises:
        ImageError: There is none, it cannot be had, or weights cannot be put into it.
    """
    slim = _on_disk(name, architecture) if Path(name).exists() else _on_registry(name, architecture, http)
    _check(slim, architecture)
    return replace(slim, torch_build=labels_of(slim.image).get(LOCK_LABEL, ""))


def doubt(slim: Slim, model: ModelSpec) -> str:
    """Why its runtime may not be one for that model; "" if nothing speaks against it.

    A version knows the model that it made an image for. What else another version than ours knows cannot be told
    without reading it; to refuse it would forbid new weights in images that are kept as they are for good reasons.
    """
    labels = labels_of(slim.image)
    version = labels.get(VERSION_LABEL, "unknown")
    is_for_it = model.complete and labels.get(MODEL_DIGEST_LABEL) == f"sha256:{model.digest}"
    if version == __version__ or is_for_it:
        return ""
    made_for = labels.get(MODEL_LABEL, "no model")
    return (
        f"{slim.name} has the runtime {version} and was made for {made_for}; this is {__version__}, and whether that "
        f"runtime knows {model.id} as we do shows when it starts"
    )


def planned(slim: Slim) -> PlannedStep:
    """What is taken over from it, for people."""
    labels, layers = labels_of(slim.image), slim.image.layers
    size = sum(layer.descriptor.size for layer in layers)
    runtime = f"runtime {labels.get(VERSION_LABEL)}, lock {labels.get(LOCK_LABEL)}"
    amount = f"{len(layers)} layers, {size / 1e6:.0f} MB"
    return PlannedStep("built already", f"{slim.name}, {slim.image.manifest.descriptor.digest}: {runtime}; {amount}")


def filled(
    slim: Slim, model: ModelSpec, model_dir: Path, weights: Sequence[Layer], *, on_top: bool
) -> tuple[Image, Bytes | None]:
    """That image with the weights in it, below all else or on top; the same on every machine.

    With it, the list of what is in it, if it has one.

    Args:
        slim: As `find` gives it.
        model: With the sha256 of every file.
        model_dir: Where they lie.
        weights: As `images.layers.weight_layers` gives them.
        on_top: Where they go.

    Raises:
        ImageError: The image is malformed, or its list cannot be read.
    """
    rest, listed = slim.image.layers, _relisted(slim, model, model_dir)
    with malformed(f"the configuration of {slim.name}"):
        document = json.loads(slim.image.config.content)
        config = document["config"]
        labels = {**config["Labels"], **weight_labels(model, weights), WEIGHTS_LABEL: "baked"}
        if listed is not None:
            rest = (*rest[:-1], _list_layer(listed))
            labels[SBOM_DIGEST_LABEL] = listed.descriptor.digest
        environment = [row for row in config.get("Env") or () if not row.startswith(_MODEL_VARIABLE)]
        config |= {"Labels": labels, "Env": [*environment, f"{_MODEL_VARIABLE}{model.id}"]}
    return compose(document, (*rest, *weights) if on_top else (*weights, *rest)), listed


def _relisted(slim: Slim, model: ModelSpec, model_dir: Path) -> Bytes | None:
    """The list of what will be in the image; None where it has none. It lies alone in the topmost layer."""
    wanted = labels_of(slim.image).get(SBOM_DIGEST_LABEL)
    if wanted is None:
        return None
    from images import sbom  # loading it takes its time

    topmost = slim.image.layers[-1]
    source = StreamSource(unpacked(topmost))
    for entry in entries(source, f"the layer {topmost.descriptor.digest}"):
        if entry.path == SBOM_PATH and entry.size <= MAX_DOCUMENT:
            content = source.read(entry.size)
            if digest_of(content) == wanted:
                return sbom.with_weights(content, model, model_dir)
    raise ImageError(f"{slim.name} has no list of what is in it, though it says so", _MAKE_ONE)


def _list_layer(listed: Bytes) -> Layer:
    content = listed.content
    tar = b"".join(
        (
            tars.directory(str(PurePosixPath(SBOM_PATH).parent)),
            tars.file(SBOM_PATH, len(content)),
            content,
            tars.padding(len(content)),
            tars.END,
        )
    )
    described = Descriptor(LAYER, digest_of(tar), len(tar))
    return Layer(Bytes(described, tar), described.digest, "i2v-setup: list")


def _on_disk(name: str, architecture: str) -> Slim:
    return Slim(name, layout.read(Path(name), architecture=architecture))


def _on_registry(name: str, architecture: str, http: HttpSettings | None) -> Slim:
    try:
        reference = references.parse(name)
    except ImageError as error:
        raise ImageError(f"there is no file {name}, and {error}", error.hint) from None
    try:
        return Slim(name, pull(reference, architecture, settings(http)), reference)
    except RegistryError as error:
        raise ImageError(f"there is no file {name}, and {error}", error.hint) from error


def _check(slim: Slim, architecture: str) -> None:
    labels = labels_of(slim.image)
    weights, model = labels.get(WEIGHTS_LABEL), labels.get(MODEL_LABEL, "a model")
    if weights == "baked":
        raise ImageError(f"{slim.name} has weights in it already, those of {model}", _MAKE_ONE)
    if weights is None and MODEL_LABEL in labels:
        raise ImageError(f"{slim.name} is nothing but the weights of {model}", _MAKE_ONE)
    if weights != "mounted":
        raise ImageError(f"{slim.name} is no image of i2v-setup", _MAKE_ONE)
    made_for = _document(slim).get("architecture")
    if made_for != architecture:
        raise ImageError(
            f"{slim.name} is not for linux/{architecture}, but for linux/{made_for}", "name one for this machine"
        )


def _document(slim: Slim) -> Mapping[str, Any]:
    with malformed(f"the configuration of {slim.name}"):
        return dict(json.loads(slim.image.config.content))
