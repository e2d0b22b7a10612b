"""The demo model's image: built for real, served, and a video made through its HTTP API."""

import hashlib
import json
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
import requests
from packaging.utils import canonicalize_name
from packaging.version import Version

from images import references, slim
from images.build import build
from images.container import Container, start
from images.engine import Engine
from images.errors import ImageError
from images.inputs import shipped_recipe
from images.pull import pull
from images.spec import SBOM_PATH, Built, Destination, ImageSpec
from images.verify import verify
from runtime import __version__
from runtime.models import model
from tests.images.registries import real_registry

Answering = Callable[[Container], None]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

_PHOTO = Path(__file__).parents[2] / "examples" / "temple.jpg"
_NAME = f"i2v-test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def built(engine: Engine, base_image: str, wheels: Mapping[str, Path]) -> Iterator[Built]:
    demo = model("demo")
    assert demo.bundled
    tag = f"{_NAME}:latest"
    said: list[str] = []
    yield build(ImageSpec(tag, base_image, "cpu", demo, demo.bundled, wheels), said.append)
    engine.client.images.remove(tag, force=True)


@pytest.fixture
def published(
    built: Built, base_image: str, wheels: Mapping[str, Path], tmp_path: Path, free_port: int
) -> Iterator[str]:
    """An image without weights on a registry."""
    assert built  # so the packages are in the build cache
    storage = tmp_path / "storage"
    with real_registry(tmp_path, free_port, storage=storage) as host:
        name = f"{host}/team/slim:1"
        wanted = ImageSpec("i2v-slim:1", base_image, "cpu", model("demo"), Path("none"), wheels, "mounted")
        build(wanted, lambda _line: None, destination=Destination(push=name), scratch=tmp_path)
        yield name
    shutil.rmtree(storage)


@pytest.fixture(scope="module")
def served(engine: Engine, built: Built, answering: Answering) -> Iterator[Container]:
    with start(engine, f"{_NAME}:latest", name=_NAME) as container:
        answering(container)
        yield container
    engine.client.volumes.get(f"{_NAME}-data").remove()


def _poll(url: str, container: Container, key: str, values: tuple[object, ...]) -> dict[str, Any]:
    """The document at `url`, once its `key` is one of `values`; the container has to live till then."""
    while True:
        document = requests.get(url, timeout=30).json()
        if document[key] in values:
            return dict(document)
        container.check()
        time.sleep(0.2)


def _poll_until_answered(url: str, container: Container) -> dict[str, Any]:
    """The first document at `url` that says "ready"; the container has to live till then."""
    while True:
        container.check()
        with suppress(requests.RequestException):
            document = requests.get(url, timeout=5).json()
            if document["ready"]:
                return dict(document)
        time.sleep(0.2)


def test_the_image_says_what_it_is_and_runs_as_nobody(engine: Engine, built: Built, base_image: str) -> None:
    config = engine.client.images.get(built.image_id).attrs["Config"]
    lock = shipped_recipe().lock("cpu").read_bytes()
    listed = engine.client.containers.run(built.image_id, [f"/{SBOM_PATH}"], entrypoint="cat", remove=True)
    assert config["Labels"] == {
        "org.opencontainers.image.title": "i2v-setup runtime",
        "org.opencontainers.image.description": "An image-to-video server with its model",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.base.name": base_image,
        "org.opencontainers.image.base.digest": engine.image(base_image).digest,
        "i2v-setup.model": "demo",
        "i2v-setup.model.digest": f"sha256:{model('demo').digest}",
        "i2v-setup.model.licence": model("demo").licence,
        "i2v-setup.weights": "baked",
        "i2v-setup.weights.layers": ",".join(layer.digest for layer in built.layers),
        "i2v-setup.parts": "environment=/opt/venv,/data,/model application=/app list=/usr/share/i2v-setup",
        "i2v-setup.lock": "cpu",
        "i2v-setup.lock.digest": f"sha256:{hashlib.sha256(lock).hexdigest()}",
        "i2v-setup.sbom.digest": f"sha256:{hashlib.sha256(listed).hexdigest()}",
    }
    assert config["User"] == "10001:10001"
    assert set(config["ExposedPorts"]) == {"8000/tcp"}
    assert built.size == engine.image(built.image_id).size > 0
    assert list(engine.image(built.image_id).diff_ids)[: len(built.layers)] == [layer.digest for layer in built.layers]


def test_the_packages_in_it_are_those_of_its_list(engine: Engine, built: Built, wheels: Mapping[str, Path]) -> None:
    look = f"cat /{SBOM_PATH}; echo; cd /opt/venv/lib/python3*/site-packages; ls -d *.dist-info"
    said = engine.client.containers.run(built.image_id, ["-c", look], entrypoint="sh", remove=True).decode()
    document, end = json.JSONDecoder().raw_decode(said)
    listed = {(row["name"], row["version"]) for row in document["components"] if row["type"] == "library"}
    names = (line.removesuffix(".dist-info").split("-") for line in said[end:].split())
    assert listed == {(canonicalize_name(name), str(Version(version))) for name, version in names}
    assert len(listed) == len(wheels) - 1  # all but the installer's


def test_no_build_tools_or_caches_are_left(engine: Engine, built: Built) -> None:
    look = "ls -A /opt /root /tmp /run/secrets /locks /wheels 2>/dev/null; ls /opt/venv/bin"
    listing = engine.client.containers.run(built.image_id, ["-c", look], entrypoint="sh", user="0", remove=True)
    listed = listing.decode().split()
    assert "venv" in listed
    assert not {"uv", "pip", ".cache", "installer", "ca", "packages.txt"} & set(listed)
    assert not [name for name in listed if name.startswith(".tmp") or name.endswith(".whl")]


def test_a_video_is_made_through_the_http_api(served: Container) -> None:
    _make_a_video(served)


def _make_a_video(served: Container) -> None:
    _poll(f"{served.url}/ready", served, "ready", (True,))
    options = {"prompt": "a slow turn", "size": "128x64", "num_frames": "4", "num_inference_steps": "2", "seed": "7"}
    with _PHOTO.open("rb") as photo:
        answer = requests.post(
            f"{served.url}/v1/videos", data=options, files={"input_reference": ("photo.jpg", photo)}, timeout=30
        )
    assert answer.ok, answer.text
    job = _poll(f"{served.url}/v1/videos/{answer.json()['id']}", served, "status", ("completed", "failed"))
    assert job["status"] == "completed", job
    content = requests.get(f"{served.url}/v1/videos/{job['id']}/content", timeout=30).content
    with av.open(BytesIO(content)) as video:
        frames = list(video.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(128, 64)] * 4


def test_weights_that_were_put_into_a_published_image_make_a_video(
    engine: Engine, published: str, answering: Answering, container_name: str
) -> None:
    demo = model("demo")
    assert demo.bundled
    found = slim.find(published, {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()])
    filled = ImageSpec("i2v-filled:1", "", "", demo, demo.bundled, {}, slim=found)
    baked = f"{published.rpartition('/')[0]}/{_NAME}"
    made = build(filled, lambda _line: None, destination=Destination(push=f"{baked}:1"))
    # The list of what is in it is another one now.
    mounted = ["mounted"] * (len(found.image.layers) - 1)
    assert [layer.outcome for layer in made.layers] == ["sent", *mounted, "sent"]
    verified = verify(pull(references.parse(f"{baked}:1")), demo, lambda _size: None)
    assert [row for row in verified.rows if not row.holds] == []
    engine.client.images.pull(baked, "1")
    try:
        with start(engine, f"{baked}:1", name=container_name) as container:
            answering(container)
            _make_a_video(container)
    finally:
        engine.client.images.remove(f"{baked}:1", force=True)


def test_an_image_without_weights_serves_those_that_are_mounted(
    engine: Engine,
    built: Built,  # its packages are in the build cache
    base_image: str,
    wheels: Mapping[str, Path],
    tag: str,
    container_name: str,
    tmp_path: Path,
) -> None:
    demo = model("demo")
    assert demo.bundled
    without = build(ImageSpec(tag, base_image, "cpu", demo, Path("none"), wheels, "mounted"), lambda _line: None)
    assert without.image_id != built.image_id
    with pytest.raises(ImageError, match="has no model in it"):
        start(engine, tag, name=container_name)
    files = tmp_path / "model"
    shutil.copytree(demo.bundled, files)
    for path in (tmp_path, files):
        path.chmod(0o755)  # the server is another user
    with start(engine, tag, name=container_name, model_dir=files) as container:
        ready = _poll_until_answered(f"{container.url}/ready", container)
        assert ready["model"] == "demo"
        mounts = engine.client.containers.get(container_name).attrs["Mounts"]
        assert [mount["RW"] for mount in mounts if mount["Destination"] == "/model"] == [False]


def test_its_health_check_passes(engine: Engine, served: Container, built: Built) -> None:
    command = engine.client.images.get(built.image_id).attrs["Config"]["Healthcheck"]["Test"]
    assert command[0] == "CMD"
    # Beside the server rather than by exec: raises if it ends badly.
    engine.client.containers.run(
        built.image_id, command[2:], entrypoint=command[1], network_mode=f"container:{_NAME}", remove=True
    )


def test_it_stops_cleanly(engine: Engine, served: Container) -> None:
    with closing(engine.client.events(decode=True, filters={"container": _NAME, "event": "die"})) as events:
        served.stop()
        assert next(events)["Actor"]["Attributes"]["exitCode"] == "0"
