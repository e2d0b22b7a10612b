import json
from collections.abc import Callable
from typing import Any

import pytest

from images.errors import ImageError
from images.oci import (
    CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYERS,
    DOCKER_MANIFEST,
    INDEX,
    LAYER,
    LAYER_GZIP,
    MANIFEST,
    Image,
    bytes_of,
    compose,
)
from images.pull import pull
from tests.images.registries import ScriptedRegistry, content, memory, small_image

_ARM = "arm64"


def _of(image: Image, architecture: str) -> Image:
    return compose({**json.loads(image.config.content), "architecture": architecture}, image.layers)


def _put(scripted: ScriptedRegistry, type_: str, document: dict[str, Any], tag: str = "1") -> None:
    written = bytes_of(type_, document)
    scripted.manifests[tag] = scripted.manifests[written.descriptor.digest] = (type_, written.content)


def _row(image: Image, architecture: str, os: str = "linux") -> dict[str, Any]:
    return {**image.manifest.descriptor.document(), "platform": {"os": os, "architecture": architecture}}


def test_a_pulled_image_is_the_one_that_was_there(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 3)
    scripted.holds(image)
    found = pull(scripted.reference())
    assert found.manifest == image.manifest
    assert found.config == image.config
    assert [(layer.descriptor, layer.diff_id, layer.made_by) for layer in found.layers] == [
        (layer.descriptor, layer.diff_id, layer.made_by) for layer in image.layers
    ]
    assert [content(layer.blob) for layer in found.layers] == [content(layer.blob) for layer in image.layers]


def test_no_layer_is_read_before_it_is_wanted(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 3)
    scripted.holds(image)
    pull(scripted.reference())
    assert [request.path for request in scripted.asked("GET", "/blobs/")] == [
        f"/v2/some/image/blobs/{image.config.descriptor.digest}"
    ]


@pytest.mark.parametrize("type_", [INDEX, DOCKER_INDEX])
def test_an_index_gives_the_image_for_the_architecture(scripted: ScriptedRegistry, type_: str) -> None:
    one = small_image(1, 1)
    other = _of(one, _ARM)
    for image in (one, other):
        scripted.holds(image, "unused")
    rows = [_row(one, "unknown", "unknown"), _row(other, "amd64", "windows"), _row(one, "amd64"), _row(other, _ARM)]
    _put(scripted, type_, {"schemaVersion": 2, "mediaType": type_, "manifests": rows})
    assert pull(scripted.reference()).manifest == one.manifest
    assert pull(scripted.reference(), _ARM).manifest == other.manifest
    with pytest.raises(ImageError, match="not for linux/s390x, but for linux/amd64, linux/arm64, windows/amd64"):
        pull(scripted.reference(), "s390x")


def test_an_image_for_another_architecture_is_said(scripted: ScriptedRegistry) -> None:
    scripted.holds(small_image(1, 1))
    with pytest.raises(ImageError, match="not for linux/arm64, but for amd64"):
        pull(scripted.reference(), _ARM)


def test_what_docker_calls_a_manifest_is_one(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 1)
    scripted.holds(image)
    [docker] = [docker for docker, oci in DOCKER_LAYERS.items() if oci == LAYER]
    document = json.loads(image.manifest.content)
    document["layers"][0]["mediaType"] = docker
    document["mediaType"] = DOCKER_MANIFEST
    _put(scripted, DOCKER_MANIFEST, document)
    assert pull(scripted.reference()).layers[0].descriptor.media_type == docker


def test_an_image_that_is_not_there_is_said(scripted: ScriptedRegistry) -> None:
    with pytest.raises(ImageError, match="does not know the image") as caught:
        pull(scripted.reference())
    assert f"docker login {scripted.host}" in caught.value.hint


def test_a_manifest_of_an_old_kind_is_said(scripted: ScriptedRegistry) -> None:
    scripted.manifests["1"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion": 1}')
    with pytest.raises(ImageError, match=r"no image of a known form, but .*v1\+prettyjws"):
        pull(scripted.reference())


def _no_layers(document: dict[str, Any]) -> None:
    document["layers"] = None


def _a_layer_less(document: dict[str, Any]) -> None:
    document["layers"] = document["layers"][1:]


def _a_digest_that_is_a_path(document: dict[str, Any]) -> None:
    document["layers"][0]["digest"] = "sha256:../../secrets"


def _a_negative_size(document: dict[str, Any]) -> None:
    document["layers"][0]["size"] = -1


def _layers_in_another_order(document: dict[str, Any]) -> None:
    document["layers"].reverse()


def _a_huge_configuration(document: dict[str, Any]) -> None:
    document["config"]["size"] = 1 << 40


def _no_configuration(document: dict[str, Any]) -> None:
    del document["config"]


@pytest.mark.parametrize(
    "spoil",
    [
        _no_layers,
        _a_layer_less,
        _a_digest_that_is_a_path,
        _a_negative_size,
        _layers_in_another_order,
        _a_huge_configuration,
        _no_configuration,
    ],
)
def test_a_manifest_that_is_wrong_is_refused(
    scripted: ScriptedRegistry, spoil: Callable[[dict[str, Any]], None]
) -> None:
    image = small_image(1, 2)
    scripted.holds(image)
    document = json.loads(image.manifest.content)
    spoil(document)
    _put(scripted, MANIFEST, document)
    with pytest.raises(ImageError, match="wrong: "):
        pull(scripted.reference())


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"rootfs": {"diff_ids": ["x", "y"]}}', b'{"rootfs": []}'])
def test_a_configuration_that_is_wrong_is_refused(scripted: ScriptedRegistry, text: bytes) -> None:
    image = small_image(1, 2)
    scripted.holds(image)
    config = memory(text, CONFIG)
    scripted.blobs[config.descriptor.digest] = text
    _put(scripted, MANIFEST, {**json.loads(image.manifest.content), "config": config.descriptor.document()})
    with pytest.raises(ImageError, match="wrong: "):
        pull(scripted.reference())


def test_a_compressed_layer_has_two_digests(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 1)
    scripted.holds(image)
    packed = memory(b"packed", LAYER_GZIP)
    scripted.blobs[packed.descriptor.digest] = packed.content
    document = {**json.loads(image.manifest.content), "layers": [packed.descriptor.document()]}
    _put(scripted, MANIFEST, document)
    layer = pull(scripted.reference()).layers[0]
    assert layer.descriptor == packed.descriptor
    assert layer.diff_id == image.layers[0].diff_id
