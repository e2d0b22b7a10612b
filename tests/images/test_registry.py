import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from images.errors import ImageError
from images.oci import INDEX, MANIFEST, bytes_of, digest_of
from images.push import push
from images.references import parse
from images.registry import Registry
from images.registry_http import settings
from mirrors.http import HttpSettings
from tests.images.registries import Answers, ScriptedRegistry, content, log_in, real_registry, small_image
from tests.loop_disk import loop_disk

pytestmark = pytest.mark.usefixtures("no_logins")


def _nothing(_: int) -> None:
    pass


def test_a_manifest_is_read_by_tag_and_by_digest(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 1)
    scripted.holds(image)
    registry = Registry(scripted.reference())
    digest = image.manifest.descriptor.digest
    assert registry.manifest("1") == registry.manifest(digest) == image.manifest
    assert registry.manifest_digest("1") == digest
    assert registry.manifest_digest("2") == ""


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_other_bytes_than_those_named_are_refused(scripted: ScriptedRegistry, by: str) -> None:
    image = small_image(1, 1)
    named = image.manifest.descriptor.digest

    def wrong(handler: Answers) -> bool:
        if "/manifests/" not in handler.path:
            return False
        handler.reply(200, {"Content-Type": MANIFEST, "Docker-Content-Digest": named}, image.manifest.content + b" ")
        return True

    scripted.before = wrong
    with pytest.raises(ImageError, match="its digest is"):
        Registry(scripted.reference()).manifest("1" if by == "tag" else named)


def test_a_manifest_without_end_is_refused(scripted: ScriptedRegistry) -> None:
    scripted.manifests["1"] = (MANIFEST, b" " * (5 << 20))
    with pytest.raises(ImageError, match="larger than 4 MiB"):
        Registry(scripted.reference()).manifest("1")


def test_a_referrer_is_written_by_its_digest(tmp_path: Path, free_port: int) -> None:
    with real_registry(tmp_path, free_port) as host:
        reference = parse(f"{host}/some/image:1")
        image = small_image(1, 1)
        push(image, reference, _nothing)
        subject = image.manifest.descriptor.document()
        document = {**json.loads(image.manifest.content), "subject": subject, "artifactType": "application/x-test"}
        referrer = bytes_of(MANIFEST, document)
        registry = Registry(reference, push=True)
        assert registry.put_manifest(referrer.content, referrer.descriptor.digest) == referrer.descriptor.digest
        assert registry.manifest(referrer.descriptor.digest) == referrer


def test_an_index_is_written_as_what_it_is(scripted: ScriptedRegistry) -> None:
    index = bytes_of(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
    Registry(scripted.reference(), push=True).put_manifest(index.content, "all")
    assert scripted.manifests["all"] == (INDEX, index.content)


def test_a_receipt_for_something_else_is_refused(scripted: ScriptedRegistry) -> None:
    def lie(handler: Answers) -> bool:
        if handler.command != "PUT":
            return False
        list(handler.body())
        handler.reply(201, {"Docker-Content-Digest": digest_of(b"something else")})
        return True

    scripted.before = lie
    with pytest.raises(ImageError, match="its receipt wrong"):
        push(small_image(1, 1), scripted.reference(), _nothing)
    assert scripted.manifests == {}


def test_another_host_is_not_told_who_we_are(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host)
    image = small_image(1, 1)
    blob = image.layers[0].blob
    with ScriptedRegistry() as storage:
        storage.blobs[blob.descriptor.digest] = content(blob)

        def send_on(handler: Answers) -> bool:
            if "Authorization" not in handler.headers:
                handler.reply(401, {"WWW-Authenticate": "Basic"})
                return True
            if "/blobs/" in handler.path:
                handler.reply(307, {"Location": f"{storage.base}{handler.path}?signature=x"})
            return "/blobs/" in handler.path

        scripted.before = send_on
        assert content(Registry(scripted.reference()).blob(blob.descriptor)) == content(blob)
        assert [request.path.partition("?")[2] for request in storage.requests] == ["signature=x"]
        assert "Authorization" not in storage.requests[0].headers


def test_a_redirect_to_another_machine_without_https_is_not_followed(scripted: ScriptedRegistry) -> None:
    def send_on(handler: Answers) -> bool:
        if "/blobs/" in handler.path:
            handler.reply(307, {"Location": "http://192.0.2.1/blob?signature=planted"})
        return "/blobs/" in handler.path

    scripted.before = send_on
    with pytest.raises(ImageError, match=r"redirects to http://192.0.2.1/blob, which is not https"):
        Registry(scripted.reference()).has_blob("sha256:none")


def test_an_upload_is_not_sent_to_another_machine_without_https(scripted: ScriptedRegistry) -> None:
    def elsewhere(handler: Answers) -> bool:
        if handler.command == "POST":
            handler.reply(202, {"Location": "http://192.0.2.1/upload?state=planted"})
        return handler.command == "POST"

    scripted.before = elsewhere
    with pytest.raises(ImageError, match=r"sends an upload to http://192.0.2.1/upload, which is not https"):
        push(small_image(1, 1), scripted.reference(), _nothing)


@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_that_asks_us_to_wait_is_asked_again(scripted: ScriptedRegistry, status: int) -> None:
    scripted.holds(image := small_image(1, 1))
    refusals = iter(range(2))

    def busy(handler: Answers) -> bool:
        if "/manifests/" not in handler.path or next(refusals, None) is None:
            return False
        handler.reply(status, {"Retry-After": "0"})
        return True

    scripted.before = busy
    assert Registry(scripted.reference()).manifest("1") == image.manifest
    assert len(scripted.asked("GET", "/manifests/")) == 3


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (404, "does not know the image .*: 404 manifest unknown", "see that the name is right"),
        (403, "gives you no access to the image", "docker login"),
        (429, "has had too many requests", "wait a while"),
        (500, "failed at the image .*: 500 a b", "log"),
        (507, "the disk of the registry .* is full", "make room"),
        (418, "refuses the image", "log"),
    ],
)
def test_what_a_registry_answers_is_explained_in_a_line(
    scripted: ScriptedRegistry, status: int, message: str, hint: str
) -> None:
    def answer(handler: Answers) -> bool:
        body = b'{"errors": [{"code": "X", "message": "a \\u001b\\n b"}]}'
        if handler.path != "/v2/" and status != 404:
            handler.reply(status, {"Retry-After": "0"}, body)
        return handler.path != "/v2/" and status != 404

    scripted.before = answer
    with pytest.raises(ImageError, match=message) as caught:
        Registry(scripted.reference()).manifest("2")
    assert hint in caught.value.hint
    assert str(caught.value).isprintable()


def test_a_full_disk_of_a_real_registry_is_said(tmp_path: Path, free_port: int) -> None:
    with (
        loop_disk(tmp_path / "disk", tmp_path / "mounted", 8) as storage,
        real_registry(tmp_path, free_port, storage=storage) as host,
        pytest.raises(ImageError, match=r"the disk of the registry .* is full"),
    ):
        push(small_image(12, 1), parse(f"{host}/some/image:1"), _nothing)


def test_a_host_that_nobody_knows_is_said() -> None:
    with pytest.raises(ImageError, match="does not resolve") as caught:
        Registry(parse("registry.invalid/a")).connect()
    assert "see that the name is right" in caught.value.hint


def test_a_port_where_nobody_listens_is_said(free_port: int) -> None:
    with pytest.raises(ImageError, match="refuses connections"):
        Registry(parse(f"127.0.0.1:{free_port}/a")).connect()


def test_what_is_no_registry_is_said(scripted: ScriptedRegistry) -> None:
    def page(handler: Answers) -> bool:
        handler.reply(404)
        return True

    scripted.before = page
    with pytest.raises(ImageError):
        Registry(scripted.reference()).connect()


def test_a_registry_on_this_machine_may_speak_https(certificate: tuple[Path, Path]) -> None:
    http = replace(settings(), ca_bundle=certificate[0])
    with ScriptedRegistry(certificate) as registry:
        assert Registry(registry.reference(), http).connect() == f"https://{registry.host}"
        image = small_image(1, 2)
        push(image, registry.reference(), _nothing, http=http)
        assert registry.manifests["1"][1] == image.manifest.content


def test_a_certificate_that_nobody_trusts_is_said(certificate: tuple[Path, Path]) -> None:
    with ScriptedRegistry(certificate) as registry:
        with pytest.raises(ImageError, match="certificate") as caught:
            Registry(registry.reference()).connect()
        assert "SSL_CERT_FILE" in caught.value.hint


def test_a_certificate_bundle_that_is_not_there_is_said(
    scripted: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(ImageError, match=r"/nowhere/ca.pem named by SSL_CERT_FILE is not there"):
        Registry(scripted.reference()).connect()


@pytest.mark.parametrize("given", [None, {"http": "http://127.0.0.1:9", "https": "http://127.0.0.1:9"}])
def test_a_registry_on_this_machine_is_asked_without_a_proxy(
    scripted: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch, given: dict[str, str] | None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert Registry(scripted.reference(), HttpSettings(proxies=given)).connect() == scripted.base


def test_the_environments_proxy_is_used_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    with pytest.raises(ImageError, match="cannot be reached through the proxy") as caught:
        Registry(parse("registry.invalid/a")).connect()
    assert "NO_PROXY" in caught.value.hint


def test_a_netrc_file_is_not_for_registries(
    scripted: ScriptedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password planted")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Registry(scripted.reference()).has_blob("sha256:none")
    assert not [request for request in scripted.requests if "Authorization" in request.headers]
