from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from images.build import build
from images.errors import ImageError
from images.oci import INDEX, MANIFEST, Bytes, Image, digest_of
from images.pull import pull
from images.push import push
from images.references import Reference, parse
from images.referrers import attach, fallback_tag
from images.spec import SBOM_PATH, Destination, ImageSpec
from runtime.models import ModelSpec
from tests.images.registries import (
    Answers,
    ScriptedRegistry,
    content,
    memory,
    real_registry,
    refuse_referrers,
    small_image,
)

_KIND = "application/vnd.cyclonedx+json"


@pytest.fixture
def real(no_logins: Path, tmp_path: Path, free_port: int) -> Iterator[str]:
    with real_registry(tmp_path, free_port) as host:
        yield host


def _nothing(_: object) -> None:
    pass


def _list(text: bytes = b"{}") -> Bytes:
    return memory(b'{"list": ' + text + b"}", _KIND)


def _pushed(reference: Reference) -> Image:
    image = small_image(1, 1)
    push(image, reference, _nothing)
    return image


def _get(host: str, path: str, accept: str = MANIFEST) -> requests.Response:
    return requests.get(f"http://{host}/v2/some/image/{path}", headers={"Accept": accept}, timeout=30)


def _listed(host: str, image: Image) -> list[dict[str, Any]]:
    """The referrers as a client finds them on a registry that knows of none itself."""
    answer = _get(host, f"manifests/{fallback_tag(image.manifest.descriptor)}", INDEX)
    assert answer.headers["Content-Type"] == INDEX
    return list(answer.json()["manifests"])


def test_a_list_is_found_from_the_image_by_the_fallback_tag(real: str) -> None:
    reference = parse(f"{real}/some/image:1")
    image = _pushed(reference)
    digest = attach(_list(), "sbom.cdx.json", image.manifest.descriptor, reference)
    [row] = _listed(real, image)
    assert (row["digest"], row["mediaType"], row["artifactType"]) == (digest, MANIFEST, _KIND)
    answer = _get(real, f"manifests/{digest}")
    assert (digest_of(answer.content), len(answer.content)) == (digest, row["size"])
    manifest = answer.json()
    subject = manifest["subject"]
    assert (subject["digest"], subject["size"]) == (image.manifest.descriptor.digest, len(image.manifest.content))
    assert manifest["artifactType"] == _KIND
    [layer] = manifest["layers"]
    assert layer["mediaType"] == _KIND
    assert layer["annotations"] == {"org.opencontainers.image.title": "sbom.cdx.json"}
    assert _get(real, f"blobs/{layer['digest']}").content == _list().content
    assert pull(reference).manifest == image.manifest


def test_the_same_list_is_there_once_and_another_beside_it(real: str) -> None:
    reference = parse(f"{real}/some/image:1")
    image = _pushed(reference)
    digests = [attach(_list(text), "a", image.manifest.descriptor, reference) for text in (b"1", b"1", b"2")]
    assert [row["digest"] for row in _listed(real, image)] == [digests[0], digests[2]]
    assert digests[0] == digests[1]
    other = _pushed(reference)
    attach(_list(), "a", other.manifest.descriptor, reference)
    assert len(_listed(real, other)) == 1


def test_what_others_listed_stays_as_they_wrote_it(scripted: ScriptedRegistry) -> None:
    image = _pushed(scripted.reference())
    tag = fallback_tag(image.manifest.descriptor)
    theirs = {
        "mediaType": MANIFEST,
        "digest": f"sha256:{'a' * 64}",
        "size": 3,
        "data": "e30=",
        "annotations": {"a": "b"},
    }
    scripted.manifests[tag] = (INDEX, json.dumps({"schemaVersion": 2, "manifests": [theirs]}).encode())
    attach(_list(), "a", image.manifest.descriptor, scripted.reference())
    rows = json.loads(scripted.manifests[tag][1])["manifests"]
    assert rows[0] == theirs
    assert len(rows) == 2


def test_a_registry_that_knows_referrers_gets_no_tag(scripted: ScriptedRegistry) -> None:
    image = _pushed(scripted.reference())
    subject = image.manifest.descriptor

    def know(answers: Answers) -> bool:
        if answers.command != "PUT" or "/manifests/" not in answers.path:
            return False
        document = b"".join(answers.body())
        assert json.loads(document)["subject"]["digest"] == subject.digest
        answers.reply(201, {"OCI-Subject": subject.digest, "Docker-Content-Digest": digest_of(document)})
        return True

    scripted.before = know
    attach(_list(), "a", subject, scripted.reference())
    assert fallback_tag(subject) not in scripted.manifests
    assert len(scripted.asked("PUT", "/manifests/")) == 2  # the image, and its referrer


@pytest.mark.parametrize("listed", [b"no json", b'{"manifests": [1]}', b"[]", b'{"schemaVersion": 2}'])
def test_a_tag_that_lists_nothing_is_left_as_it_is(listed: bytes, scripted: ScriptedRegistry) -> None:
    image = _pushed(scripted.reference())
    tag = fallback_tag(image.manifest.descriptor)
    scripted.manifests[tag] = (INDEX, listed)
    with pytest.raises(ImageError, match="malformed"):
        attach(_list(), "a", image.manifest.descriptor, scripted.reference())
    assert scripted.manifests[tag] == (INDEX, listed)


def test_an_image_under_the_fallback_tag_is_not_overwritten(real: str) -> None:
    reference = parse(f"{real}/some/image:1")
    image = _pushed(reference)
    other = _pushed(replace(reference, tag=fallback_tag(image.manifest.descriptor)))
    with pytest.raises(ImageError, match="no list of referrers"):
        attach(_list(), "a", image.manifest.descriptor, reference)
    assert pull(replace(reference, tag=fallback_tag(image.manifest.descriptor))).manifest == other.manifest


def test_a_list_of_referrers_that_cannot_be_read_is_not_replaced(scripted: ScriptedRegistry) -> None:
    image = _pushed(scripted.reference())
    tag = fallback_tag(image.manifest.descriptor)

    def refuse(answers: Answers) -> bool:
        if answers.command == "GET" and tag in answers.path:
            answers.reply(403)
            return True
        return False

    scripted.before = refuse
    with pytest.raises(ImageError, match="403"):
        attach(_list(), "a", image.manifest.descriptor, scripted.reference())
    assert tag not in scripted.manifests


def _weights(model: ModelSpec) -> ImageSpec:
    assert model.bundled
    return ImageSpec("i2v-weights-only:1", "none", "cpu", model, model.bundled, {}, "volume")


def test_what_is_in_pushed_weights_is_attached_to_them(real: str, small_model: ModelSpec) -> None:
    reference = f"{real}/some/image:1"
    for _ in range(2):
        built = build(_weights(small_model), _nothing, destination=Destination(push=reference))
        assert built.warnings == ()
    image = pull(parse(reference))
    assert image.manifest.descriptor.digest == built.image_id
    [row] = _listed(real, image)
    [layer] = _get(real, f"manifests/{row['digest']}").json()["layers"]
    assert layer["annotations"]["org.opencontainers.image.title"] == Path(SBOM_PATH).name
    document = _get(real, f"blobs/{layer['digest']}").json()
    [model] = document["components"]
    assert [file["name"] for file in model["components"]] == [file.path for file in small_model.files]


def test_a_list_that_cannot_be_attached_spoils_no_push_and_is_told(
    scripted: ScriptedRegistry, small_model: ModelSpec
) -> None:
    scripted.before = refuse_referrers
    built = build(_weights(small_model), _nothing, destination=Destination(push=str(scripted.reference())))
    [warning] = built.warnings
    assert "SBOM" in warning
    assert "no such manifests here" in warning
    image = pull(scripted.reference())
    assert image.manifest.descriptor.digest == built.image_id
    assert content(image.layers[0].blob)
