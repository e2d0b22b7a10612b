import socket
from collections.abc import Iterator

import pytest
import requests

from images.loopback_registry import LoopbackRegistry
from images.oci import MANIFEST, Image
from tests.images.layers import Broken, content, image, layer, with_blob

_HELLO = bytes.fromhex("16030100310100002d0303") + bytes(40)


@pytest.fixture
def served() -> Image:
    return image([layer("a", 3 << 20)])


@pytest.fixture
def registry(served: Image) -> Iterator[LoopbackRegistry]:
    with LoopbackRegistry(served, lambda size: None) as registry:
        yield registry


def _url(registry: LoopbackRegistry) -> str:
    host, _, path = registry.reference.rpartition(":")[0].partition("/")
    return f"http://{host}/v2/{path}"


def test_the_image_is_served_by_tag_and_by_digest(registry: LoopbackRegistry, served: Image) -> None:
    manifest = served.manifest
    for name in (registry.reference.rpartition(":")[2], manifest.descriptor.digest):
        answer = requests.get(f"{_url(registry)}/manifests/{name}", timeout=5)
        assert answer.content == manifest.content
        assert answer.headers["Content-Type"] == MANIFEST
        assert answer.headers["Docker-Content-Digest"] == manifest.descriptor.digest


def test_a_blob_is_served_whole_and_counted(registry: LoopbackRegistry, served: Image) -> None:
    (only,) = served.layers
    answer = requests.get(f"{_url(registry)}/blobs/{only.descriptor.digest}", timeout=5)
    assert answer.content == content(only)
    assert registry.sent == {only.descriptor.digest: only.descriptor.size}


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=5-", slice(5, None)), ("bytes=0-0", slice(0, 1)), ("bytes=7-99999999999", slice(7, None))],
)
def test_a_part_of_a_blob_is_served(registry: LoopbackRegistry, served: Image, asked: str, part: slice) -> None:
    (only,) = served.layers
    answer = requests.get(f"{_url(registry)}/blobs/{only.descriptor.digest}", headers={"Range": asked}, timeout=5)
    assert answer.status_code == 206
    assert answer.content == content(only)[part]
    assert answer.headers["Content-Range"].endswith(f"/{only.descriptor.size}")


@pytest.mark.parametrize("asked", ["bytes=99999999999-", "bytes=9-5", "lines=1-2", "bytes=-5"])
def test_a_part_that_is_none_is_refused(registry: LoopbackRegistry, served: Image, asked: str) -> None:
    digest = served.layers[0].descriptor.digest
    assert requests.get(f"{_url(registry)}/blobs/{digest}", headers={"Range": asked}, timeout=5).status_code == 416


def test_head_tells_the_size_and_sends_nothing(registry: LoopbackRegistry, served: Image) -> None:
    what = served.layers[0].descriptor
    answer = requests.head(f"{_url(registry)}/blobs/{what.digest}", timeout=5)
    assert int(answer.headers["Content-Length"]) == what.size
    assert registry.sent == {}


def test_who_does_not_know_the_name_finds_nothing(registry: LoopbackRegistry, served: Image) -> None:
    base = _url(registry)
    host, digest = base[: base.index("/v2/")], served.layers[0].descriptor.digest
    for path in ("/v2/_catalog", f"/v2/other/blobs/{digest}", f"/v2/blobs/{digest}", "/"):
        assert requests.get(host + path, timeout=5).status_code == 404
    assert requests.get(f"{host}/v2/", timeout=5).status_code == 200


def test_two_registries_have_different_names(registry: LoopbackRegistry, served: Image) -> None:
    with LoopbackRegistry(served, lambda size: None) as other:
        assert other.reference.partition("/")[2] != registry.reference.partition("/")[2]


def test_a_tls_hello_is_answered_in_plain_http(registry: LoopbackRegistry) -> None:
    host, _, rest = registry.reference.partition(":")
    with socket.create_connection((host, int(rest.partition("/")[0])), timeout=5) as connection:
        connection.sendall(_HELLO)
        said = b"".join(iter(lambda: connection.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), None])
def test_a_blob_that_cannot_be_read_breaks_off_and_is_told(error: OSError | None) -> None:
    whole = layer("a", 100_000)
    spoiled = image([with_blob(whole, Broken(whole.descriptor, content(whole)[:100], error))])
    with LoopbackRegistry(spoiled, lambda size: None) as registry:
        with pytest.raises(requests.exceptions.RequestException):
            requests.get(f"{_url(registry)}/blobs/{whole.descriptor.digest}", timeout=5)
        assert whole.descriptor.digest in str(registry.failure)
