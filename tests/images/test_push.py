import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.engine import Engine
from images.errors import ImageError
from images.oci import Image, compose
from images.pull import pull
from images.push import push
from images.references import Reference, parse
from images.registry import Registry
from tests.conftest import ROOT
from tests.images.registries import (
    Answers,
    ScriptedRegistry,
    content,
    image_of,
    real_registry,
    small_image,
    tar_layer,
)
from tests.images.stuck import Stuck


def _nothing(_: int) -> None:
    pass


@pytest.fixture
def real(no_logins: Path, tmp_path: Path, free_port: int) -> Iterator[str]:
    with real_registry(tmp_path, free_port) as host:
        yield host


def _size(image: Image) -> int:
    return sum(blob.descriptor.size for blob in image.blobs)


def test_what_is_pushed_can_be_pulled(real: str) -> None:
    image = small_image(3, 6)
    told: list[int] = []
    plan: list[int] = []
    pushed = push(image, parse(f"{real}/some/image:1"), told.append, on_plan=plan.append)
    assert pushed.digest == image.manifest.descriptor.digest
    assert [(blob.digest, blob.size) for blob in pushed.blobs] == [
        (blob.descriptor.digest, blob.descriptor.size) for blob in image.blobs
    ]
    assert {blob.outcome for blob in pushed.blobs} == {"sent"}
    assert plan == [_size(image)] == [sum(told)] == [pushed.sent_bytes]
    found = pull(parse(f"{real}/some/image@{pushed.digest}"))
    assert [content(layer.blob) for layer in found.layers] == [content(layer.blob) for layer in image.layers]


def test_a_second_push_sends_nothing(real: str) -> None:
    image = small_image(1, 3)
    plan: list[int] = []
    push(image, parse(f"{real}/some/image:1"), _nothing)
    pushed = push(image, parse(f"{real}/some/image:2"), _nothing, on_plan=plan.append)
    assert {blob.outcome for blob in pushed.blobs} == {"there already"}
    assert plan == [0]
    assert pull(parse(f"{real}/some/image:2")).manifest == image.manifest


def test_what_a_sibling_has_is_mounted(real: str) -> None:
    image = small_image(1, 2)
    push(image, parse(f"{real}/first/image:1"), _nothing)
    larger = compose(json.loads(image.config.content), (*image.layers, tar_layer({"more": b"x"})))
    plan: list[int] = []
    pushed = push(
        larger, parse(f"{real}/second/image:1"), _nothing, on_plan=plan.append, siblings=["none/such", "first/image"]
    )
    assert [blob.outcome for blob in pushed.blobs] == ["mounted", "mounted", "sent", "sent"]
    assert plan == [pushed.sent_bytes]
    assert content(pull(parse(f"{real}/second/image:1")).layers[0].blob) == content(image.layers[0].blob)


def test_the_manifest_comes_when_all_else_is_there(scripted: ScriptedRegistry) -> None:
    push(small_image(1, 5), scripted.reference(), _nothing)
    methods = [request.method for request in scripted.requests]
    assert methods.count("PUT") == 7
    assert scripted.requests[-1].path == "/v2/some/image/manifests/1"
    assert len(scripted.asked("PUT", "/manifests/")) == 1


def test_a_blob_that_fails_leaves_no_tag(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 5)
    bad = image.layers[3].descriptor.digest.removeprefix("sha256:")

    def refuse(handler: Answers) -> bool:
        if handler.command != "PUT" or bad not in handler.path:
            return False
        list(handler.body())
        handler.reply(403)
        return True

    scripted.before = refuse
    with pytest.raises(ImageError, match="gives you no access to the blob"):
        push(image, scripted.reference(), _nothing)
    assert scripted.manifests == {}


def test_an_image_may_have_no_tag_but_its_digest(scripted: ScriptedRegistry) -> None:
    image = small_image(1, 1)
    host, digest = scripted.host, image.manifest.descriptor.digest
    push(image, Reference(host, "some/image", "", digest), _nothing)
    assert list(scripted.manifests) == [digest]


def test_an_image_is_not_pushed_under_the_digest_of_another(scripted: ScriptedRegistry) -> None:
    other = f"sha256:{'a' * 64}"
    with pytest.raises(ImageError, match="cannot be pushed as"):
        push(small_image(1, 1), Reference(scripted.host, "some/image", "1", other), _nothing)
    assert scripted.requests == []


def test_an_image_goes_from_one_registry_to_another(real: str, scripted: ScriptedRegistry) -> None:
    image = small_image(2, 5)
    scripted.holds(image)
    push(pull(scripted.reference()), parse(f"{real}/copied/image:1"), _nothing)
    assert pull(parse(f"{real}/copied/image:1")).manifest == image.manifest


def test_damaged_layers_of_another_registry_are_not_passed_on(scripted: ScriptedRegistry) -> None:
    image = small_image(2, 3)
    with ScriptedRegistry() as source:
        source.holds(image)
        digest = image.layers[1].descriptor.digest
        source.blobs[digest] = bytes(len(source.blobs[digest]))
        with pytest.raises(ImageError, match=f"{source.host} sends the blob {digest} wrong"):
            push(pull(source.reference()), scripted.reference(), _nothing)
    assert digest not in scripted.blobs
    assert scripted.manifests == {}


# A push in a process of its own, of an image whose layers are files; a failure is told as the threads that are left.
_PUSHES = """
import sys, threading
from pathlib import Path
from images.push import push
from images.references import parse
from tests.images.registries import image_of, tar_layer
layers = [tar_layer({"file": path.read_bytes()}) for path in sorted(Path(sys.argv[2]).iterdir())]
try:
    push(image_of(*layers), parse(sys.argv[1]), lambda _: None)
except KeyboardInterrupt:
    print("interrupted", *(thread.name for thread in threading.enumerate()))
"""


def _pushing(reference: Reference, layers: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PUSHES, str(reference), str(layers)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """One large layer, and three small ones."""
    directory = tmp_path / "layers"
    directory.mkdir()
    for number, megabytes in enumerate((20, 1, 1, 1)):
        (directory / str(number)).write_bytes(os.urandom(megabytes << 20))
    return directory


def test_a_push_that_was_killed_goes_on_where_it_was(scripted: ScriptedRegistry, layers: Path) -> None:
    stuck = Stuck(scripted, 1 << 20)
    with _pushing(scripted.reference(), layers) as process:
        stuck.wait(4)  # three layers and the configuration
        process.kill()
    stuck.go_on.set()
    assert scripted.manifests == {}
    scripted.before = lambda _: False
    scripted.requests.clear()
    with _pushing(scripted.reference(), layers) as process:
        assert process.wait() == 0
    assert len(scripted.asked("PUT", "/uploads/")) == 1
    assert "1" in scripted.manifests
    pulled = pull(scripted.reference())
    assert len(content(pulled.layers[0].blob)) > 20 << 20


@pytest.mark.parametrize("take", [1 << 20, None])
def test_an_interrupt_ends_a_push_and_its_threads(scripted: ScriptedRegistry, layers: Path, take: int | None) -> None:
    stuck = Stuck(scripted, take)
    with _pushing(scripted.reference(), layers) as process:
        stuck.wait(4)
        process.send_signal(signal.SIGINT)
        # Nobody answers; without the interrupt it would wait for minutes.
        said, _ = process.communicate(timeout=30)
    stuck.go_on.set()
    assert said == "interrupted MainThread\n"
    assert scripted.manifests == {}


def test_an_interrupt_while_another_registry_sends_nothing_ends_a_push(scripted: ScriptedRegistry) -> None:
    image = image_of(tar_layer({"large": os.urandom(8 << 20)}))
    silent = threading.Event()
    with ScriptedRegistry() as source:
        source.holds(image)
        pulled = pull(source.reference())

        def stop_sending(handler: Answers) -> bool:
            blob = source.blobs[image.layers[0].descriptor.digest]
            handler.send_headers(200, {"Content-Length": str(len(blob))})
            handler.wfile.write(blob[: 4 << 20])
            silent.wait()
            handler.close_connection = True
            return True

        source.before = stop_sending
        seen = 0

        def interrupt(count: int) -> None:
            nonlocal seen
            seen += count
            if seen > 3 << 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            push(pulled, scripted.reference(), interrupt)
        assert not [thread for thread in threading.enumerate() if thread.name == "i2v-registry"]
        silent.set()


def test_an_interrupt_reaches_a_target_that_is_silent_when_all_was_passed_on(scripted: ScriptedRegistry) -> None:
    image = image_of(tar_layer({"large": os.urandom(11 << 20)}))
    stuck = Stuck(scripted, None)
    with ScriptedRegistry() as source:
        source.holds(image)
        pulled, seen = pull(source.reference()), 0

        def interrupt(count: int) -> None:
            nonlocal seen
            seen += count
            if seen == _size(image):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            push(pulled, scripted.reference(), interrupt)
        assert not [thread for thread in threading.enumerate() if thread.name == "i2v-registry"]
    stuck.go_on.set()


@pytest.mark.docker
def test_images_go_between_us_and_the_engine(engine: Engine, base_image: str, real: str) -> None:
    """Docker pushes an image, we pull it, add a layer and push it; Docker pulls and runs that."""
    base, ours = f"{real}/i2v-test/{uuid.uuid4().hex[:12]}", f"{real}/i2v-test/{uuid.uuid4().hex[:12]}"
    images = engine.client.images
    images.get(base_image).tag(base, "1")
    try:
        said = list(images.push(base, "1", stream=True, decode=True))
        assert not [line for line in said if "error" in line]
        pulled = pull(parse(f"{base}:1"))
        assert content(pulled.layers[0].blob)
        layer = tar_layer({"greeting": b"hello from a layer\n"})
        image = compose(json.loads(pulled.config.content), (*pulled.layers, layer))
        pushed = push(image, parse(f"{ours}:1"), _nothing, siblings=[parse(base).repository])
        assert [blob.outcome for blob in pushed.blobs] == ["mounted"] * len(pulled.layers) + ["sent", "sent"]
        assert Registry(parse(f"{ours}:1")).manifest_digest("1") == pushed.digest
        images.pull(ours, "1")
        said_inside = engine.client.containers.run(f"{ours}:1", ["cat", "/greeting"], remove=True, network_mode="none")
        assert said_inside == b"hello from a layer\n"
    finally:
        for name in (base, ours):
            for image_ in images.list(name):
                images.remove(next(tag for tag in image_.tags if tag.startswith(name)))
