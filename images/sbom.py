"""What is in an image, as a list for scanners and auditors: a CycloneDX document, always in the same bytes.

    an image        its Python packages by the lock's sha256, our runtime, the base image by its digest, the model
    weights alone   the model
    the model       each of its files by sha256 and size, its licence and source as far as its publisher names them

Nothing in it comes from a clock or from chance, and it does not depend on the image's name: its serial number is made
of all else that it says. Of the base image it names no more than the digest. Knows no engine.

    https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import fixup_id
from packageurl import PackageURL

from images.documents import malformed
from images.model_files import PlacedFile, place
from images.oci import Bytes, Descriptor, digest_of
from images.packages import Package, installed
from images.spec import LOCK_DIGEST_LABEL, LOCK_LABEL, MODEL_DIGEST_LABEL, MODEL_LABEL, WEIGHTS_LABEL, ImageSpec
from runtime import __version__
from runtime.models import ModelSpec

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_LICENCE = "Apache-2.0"  # our own
_SERIALS = uuid.UUID("6f2c3f0e-6a0b-5d0c-9d57-0a4f0d6f8a3e")  # sets our serial numbers apart from others'
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def of_image(spec: ImageSpec, lock: Path, base_digest: str) -> Bytes:
    """What is in an image that the Dockerfile builds.

    Args:
        spec: The image; the model's files are looked for only where they are in it.
        lock: The lock that its packages come from.
        base_digest: What the base image is known by.

    Raises:
        ImageError: A wheel or a file of the model is not there, or the lock makes no sense.
    """
    files = place(spec.model, spec.model_dir) if spec.weights == "baked" else ()
    base = Component(name=spec.base_image, version=base_digest, type=ComponentType.CONTAINER, bom_ref="base")
    runtime = Component(
        name="i2v-setup",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="runtime",
        licenses=[DisjunctiveLicense(id=_LICENCE)],
    )
    said = {
        **_model_labels(spec.model, spec.weights),
        LOCK_LABEL: spec.torch_build,
        LOCK_DIGEST_LABEL: digest_of(lock.read_bytes()),
    }
    image = Component(name="i2v-setup runtime", version=__version__, type=ComponentType.CONTAINER, bom_ref="image")
    packages = map(_package, installed(spec.wheels, lock))
    return _document(image, [base, runtime, _model(spec.model, files), *packages], said)


def of_weights(model: ModelSpec, model_dir: Path) -> Bytes:
    """What is in an image of weights alone.

    Raises:
        ImageError: A file of the model is missing.
    """
    image = Component(name="i2v-setup weights", type=ComponentType.CONTAINER, bom_ref="image")
    return _document(image, [_model(model, place(model, model_dir))], _model_labels(model, "volume"))


def with_weights(listed: bytes, model: ModelSpec, model_dir: Path) -> Bytes:
    """The list of an image that had no weights, now that it has those of a model.

    Args:
        listed: As `of_image` made it.
        model: With the sha256 of every file.
        model_dir: Where they lie.

    Raises:
        ImageError: A file of the model is missing, or the list is none.
    """
    [added] = json.loads(of_weights(model, model_dir).content)["components"]
    with malformed("the list of what is in the image"):
        document = json.loads(listed)
        others = [row for row in document["components"] if row["bom-ref"] != added["bom-ref"]]
        said = {row["name"]: row["value"] for row in document["metadata"]["properties"]}
        said |= _model_labels(model, "baked")
        document["components"] = [*others, added]
        document["metadata"]["properties"] = [{"name": name, "value": value} for name, value in said.items()]
        del document["serialNumber"]
        return _numbered(document)


def _model_labels(model: ModelSpec, weights: str) -> Mapping[str, str]:
    """What the image's labels say too."""
    return {MODEL_LABEL: model.id, MODEL_DIGEST_LABEL: f"sha256:{model.digest}", WEIGHTS_LABEL: weights}


def _package(package: Package) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=package.wheel,
        purl=purl,
        hashes=[_sha256(package.sha256)],
        properties=_properties({"i2v-setup.wheel": package.wheel}),
    )


def _model(model: ModelSpec, files: Sequence[PlacedFile]) -> Component:
    """The model, and those of its files that are in the image."""
    namespace, _, name = (model.repo or "").rpartition("/")
    return Component(
        name=model.id,
        version=model.revision,
        description=model.title,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        purl=PackageURL("huggingface", namespace, name, model.revision) if model.repo else None,
        licenses=[_licence(model.licence)] if model.licence else None,
        components=map(_file, files),
    )


def _file(found: PlacedFile) -> Component:
    file = found.file
    said = {"i2v-setup.size": str(file.size)}
    if file.origin is not None:
        said["i2v-setup.origin"] = f"{file.origin.commit}/{file.origin.path}"
    return Component(
        name=file.path,
        type=ComponentType.FILE,
        bom_ref=f"model/{file.path}",
        hashes=[_sha256(str(file.sha256))],
        properties=_properties(said),
    )


def _licence(named: str) -> DisjunctiveLicense:
    """By its SPDX id, where what a publisher wrote is one."""
    known = fixup_id(named)
    return DisjunctiveLicense(id=known) if known else DisjunctiveLicense(name=named)


def _sha256(digits: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digits)


def _properties(said: Mapping[str, str]) -> Iterable[Property]:
    return [Property(name=name, value=value) for name, value in said.items()]


def _document(image: Component, components: Sequence[Component], said: Mapping[str, str]) -> Bytes:
    metadata = BomMetaData(component=image, properties=_properties(said), timestamp=_EPOCH)
    bom = Bom(components=components, metadata=metadata, serial_number=_SERIALS)
    bom.register_dependency(image, components)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    # An entry that depends on nothing would say that it does; we only do not know.
    document["dependencies"] = [row for row in document["dependencies"] if row.get("dependsOn")]
    return _numbered(document)


def _numbered(document: Mapping[str, Any]) -> Bytes:
    """The document with the serial number that is its own."""
    ordered = _ordered(document)
    said_of_all = hashlib.sha256(_text(ordered)).hexdigest()
    content = _text({**ordered, "serialNumber": uuid.uuid5(_SERIALS, said_of_all).urn})
    return Bytes(Descriptor(MEDIA_TYPE, digest_of(content), len(content)), content)


def _ordered(value: Any) -> Any:
    """With its lists sorted: the order of none of them says anything, and versions of the library may differ in it."""
    if isinstance(value, dict):
        return {name: _ordered(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted(map(_ordered, value), key=_text)
    return value


def _text(document: object) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
