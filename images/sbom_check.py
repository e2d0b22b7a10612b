"""Holds the list of what is in an image (its SBOM) against the image: its labels, packages, lock and model.

The list is what somebody wrote into the image, so it is read as all else there: as a claim. A package is what has a
directory of its own in site-packages that says so; files that belong to none are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from images import documents
from images.contents import Found
from images.errors import ImageError
from images.findings import Row, digest_told, each_same, same
from images.spec import (
    BASE_DIGEST_LABEL,
    BASE_LABEL,
    LOCK_DIGEST_LABEL,
    LOCK_LABEL,
    MODEL_DIGEST_LABEL,
    MODEL_LABEL,
    SBOM_DIGEST_LABEL,
    SBOM_PATH,
    VERSION_LABEL,
    WEIGHTS_LABEL,
)
from mirrors import lock
from mirrors.errors import MirrorError

_SITE = "opt/venv/lib/*/site-packages"
#: Where installed packages say what they are, each in a directory, as `Contents` looks for them.
PACKAGES = (f"{_SITE}/*.dist-info", f"{_SITE}/*.egg-info")
_LABELS = (
    *(MODEL_LABEL, MODEL_DIGEST_LABEL, WEIGHTS_LABEL, LOCK_LABEL, LOCK_DIGEST_LABEL),
    *(VERSION_LABEL, BASE_LABEL, BASE_DIGEST_LABEL),
)


@dataclass(frozen=True)
class _Listed:
    """What the list says: what labels say too, the packages with version and sha256, the model's files by sha256."""

    labels: Mapping[str, str]
    packages: tuple[tuple[str, str, str], ...]
    files: Mapping[str, str]


def rows(
    labels: Mapping[str, str], found: Mapping[str, Found], weights: Mapping[str, str], locked: Found | None
) -> Iterator[Row]:
    """What was found; nothing where neither a list nor a label of one is there.

    Args:
        labels: The image's.
        found: What is in the directories of `PACKAGES`, and the list, with its bytes.
        weights: The sha256 of the model's files in the image, by path.
        locked: The lock in the image, with its bytes.
    """
    file = found.get(SBOM_PATH)
    if file is None and SBOM_DIGEST_LABEL not in labels:
        return
    yield same(f"/{SBOM_PATH}", labels.get(SBOM_DIGEST_LABEL, f"no label {SBOM_DIGEST_LABEL}"), digest_told(file))
    if file is None:
        return
    try:
        listed = _read(file.content)
    except ImageError as error:
        yield Row("the SBOM", "a CycloneDX document", str(error), False)
        return
    said = {name: value for name, value in labels.items() if name in _LABELS}
    yield from each_same("labels in the SBOM", listed.labels, said)
    packages = _versions((name, version) for name, version, _ in listed.packages)
    yield from each_same("packages in the SBOM", packages, _installed(found))
    yield _hashes(listed, locked)
    yield from each_same("model files in the SBOM", listed.files, weights)


def _read(content: bytes | None) -> _Listed:
    with documents.malformed("it"):
        document = json.loads(content or b"")
        if document["bomFormat"] != "CycloneDX":
            raise ValueError("it is another format")
        labels = {str(row["name"]): str(row["value"]) for row in document["metadata"]["properties"]}
        packages: list[tuple[str, str, str]] = []
        files: dict[str, str] = {}
        for row in document["components"]:
            kind, name, version = row["type"], str(row["name"]), str(row.get("version", ""))
            if kind == "library":
                packages.append((name, version, _sha256(row)))
            elif kind == "machine-learning-model":
                files |= {str(file["name"]): _sha256(file) for file in row.get("components", ())}
            elif kind == "container":
                labels |= {BASE_LABEL: name, BASE_DIGEST_LABEL: version}
            elif kind == "application":
                labels[VERSION_LABEL] = version
        return _Listed(labels, tuple(packages), files)


def _sha256(row: Mapping[str, Any]) -> str:
    [digits] = (str(each["content"]) for each in row["hashes"] if each["alg"] == "SHA-256")
    return digits


def _installed(found: Mapping[str, Found]) -> Mapping[str, str]:
    """The versions of the packages that are there, by name."""
    depth = len(_SITE.split("/"))
    paths = (path.split("/") for path in found)
    names = {
        parts[depth]
        for parts in paths
        if len(parts) > depth and any(all(map(fnmatchcase, parts, pattern.split("/"))) for pattern in PACKAGES)
    }
    # "name-version.dist-info", "name-version-py3.11.egg-info", "name.egg-info"
    stems = (name.rpartition(".")[0].split("-") for name in names)
    return _versions((stem[0], stem[1] if len(stem) > 1 else "") for stem in stems)


def _versions(packages: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The versions by normalized name; one that is there several times has them all."""
    found: dict[str, list[str]] = {}
    for name, version in packages:
        found.setdefault(canonicalize_name(name), []).append(_normalized(version))
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def _normalized(version: str) -> str:
    try:
        return str(Version(version))
    except InvalidVersion:
        return version


def _hashes(listed: _Listed, locked: Found | None) -> Row:
    """Each wheel that the list names has to be one that the lock allows."""
    what, claimed = "wheels in the SBOM", f"{len(listed.packages)}, each as the lock has it"
    try:
        pins = lock.every_pin((locked.content or b"").decode() if locked else "", "the lock in the image")
    except (MirrorError, UnicodeDecodeError) as error:
        return Row(what, claimed, str(error), False)
    allowed = {(pin.name, pin.version, sha256) for pin in pins for sha256 in pin.sha256s}
    wrong = sorted({name for name, version, sha256 in listed.packages if (name, version, sha256) not in allowed})
    return Row(what, claimed, f"otherwise: {', '.join(wrong)}" if wrong else "the same", not wrong)
