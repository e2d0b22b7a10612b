"""A real engine, a base image, and models and recipes that are small."""

import hashlib
import json
import os
import platform
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from docker.errors import APIError, NotFound
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from images.container import Container
from images.engine import Engine
from images.inputs import Recipe, shipped_recipe
from images.spec import ImageSpec
from mirrors import catalogue, lock
from mirrors.fetch import fetch
from mirrors.http import CA_VARIABLES, HttpSettings
from mirrors.known import Known
from mirrors.lock import Pin
from mirrors.resolve import Index, resolve
from mirrors.store import Store
from mirrors.tags import manylinux, supported
from runtime.models import ModelSpec
from tests.images.registries import ScriptedRegistry

_PYTHON = "3.11"  # the base image's
_SMALL = "annotated-doc"


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    """A name for an image, which is removed afterwards with every image that bore it."""
    name = f"i2v-test:{uuid.uuid4().hex[:12]}"
    before = {image.id for image in engine.client.images.list()}
    yield name
    for image in engine.client.images.list(all=False):
        if image.id not in before and (name in image.tags or not image.tags):
            # One that somebody else removed, or that is in use, is not ours.
            with suppress(APIError):
                engine.client.images.remove(str(image.id), force=True)


@pytest.fixture
def container_name(engine: Engine) -> Iterator[str]:
    """A name for a container, which is removed afterwards with its volume."""
    name = f"i2v-test-{uuid.uuid4().hex[:12]}"
    yield name
    for found in engine.client.containers.list(all=True, filters={"name": f"^/{name}$"}):
        found.remove(force=True)
    try:
        engine.client.volumes.get(f"{name}-data").remove(force=True)
    except NotFound:
        return


@pytest.fixture(scope="session")
def answering() -> Callable[[Container], None]:
    """Waits until the server in a container answers; the container has to live till then."""

    def wait(container: Container) -> None:
        while True:
            container.check()
            try:
                if requests.get(f"{container.url}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)

    return wait


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def index_url() -> str:
    """Where this machine gets its packages."""
    return os.environ.get("PIP_INDEX_URL") or PYPI_SIMPLE_ENDPOINT


@pytest.fixture(scope="session")
def bring(tmp_path_factory: pytest.TempPathFactory, index_url: str) -> Callable[[Sequence[Pin]], dict[str, Path]]:
    """Gets the wheels of pins, as an image takes them, by file name.

    torch for CPU is on its makers' own index only, unless it lies here as a wheel.
    """
    directory = tmp_path_factory.mktemp("packages")
    store, known, http = Store(directory / "store"), Known(directory / "known.json"), HttpSettings()
    links = [Path(link) for link in os.environ.get("PIP_FIND_LINKS", "").split()]
    directories = [link.resolve().as_uri() for link in links if link.is_dir()]
    makers = next(row for row in catalogue.mirrors("pytorch") if row.upstream)
    places = (*map(catalogue.find, (*directories, index_url)), catalogue.with_variant(makers, "cpu"))
    tags = supported(_PYTHON, manylinux(platform.machine(), 28))

    def get(pins: Sequence[Pin]) -> dict[str, Path]:
        wheels = resolve(pins, tags, [Index(place) for place in places], http, known)
        return {wheel.filename: wheel.path or fetch(wheel.artifact, wheel.urls, store, http).path for wheel in wheels}

    return get


@pytest.fixture(scope="session")
def wheels(bring: Callable[[Sequence[Pin]], dict[str, Path]]) -> Mapping[str, Path]:
    """All that an image of the lock for CPU takes."""
    return bring(_pins(shipped_recipe()))


@pytest.fixture(scope="session")
def small_wheels(bring: Callable[[Sequence[Pin]], dict[str, Path]]) -> Mapping[str, Path]:
    """All that an image of `small_recipe` takes."""
    return bring([pin for pin in _pins(shipped_recipe()) if pin.name in (_SMALL, "uv")])


def _pins(recipe: Recipe) -> tuple[Pin, ...]:
    environment = {"python_version": _PYTHON, "python_full_version": f"{_PYTHON}.0"}
    return tuple(
        pin
        for path in (recipe.lock("cpu"), recipe.context / "images" / "uv.txt")
        for pin in lock.read(path, environment)
    )


@pytest.fixture
def small_model(tmp_path: Path) -> ModelSpec:
    """Two files and their manifest, beside a file that is none of it."""
    directory = tmp_path / "model"
    contents = {"config.json": b"{}", "unet/weights.safetensors": b"weights" * 100}
    rows = []
    for path, content in contents.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
        rows.append({"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    (directory / "notes.txt").write_text("not part of the model")
    (directory / "manifest.json").write_text(json.dumps({"files": rows}))
    return ModelSpec(
        id="small",
        title="Small",
        family="i2vgen-xl",
        repo=None,
        revision=None,
        licence="Apache-2.0",
        gated=False,
        precision="fp16",
        note="",
        manifest=str(directory / "manifest.json"),
    )


@pytest.fixture
def spec(tag: str, base_image: str, small_model: ModelSpec, small_wheels: Mapping[str, Path]) -> ImageSpec:
    assert small_model.bundled
    return ImageSpec(tag, base_image, "cpu", small_model, small_model.bundled, small_wheels)


@pytest.fixture
def small_recipe(tmp_path: Path) -> Recipe:
    """The shipped Dockerfile with a lock of one small package, so that a build takes seconds.

    The lock is unlike any before, so that no test finds its packages in the build cache.
    """
    shipped = shipped_recipe()
    context = tmp_path / "checkout"
    (context / "images").mkdir(parents=True)
    shutil.copy(shipped.context / "images" / "uv.txt", context / "images")
    shutil.copytree(shipped.context / "runtime", context / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile", "Dockerfile.dockerignore"):
        shutil.copy(shipped.dockerfile.with_name(name), context)
    locked = context / "runtime" / "locks" / "cpu.txt"
    requirements = locked.read_text().replace("\\\n", " ").splitlines()
    small = next(line for line in requirements if line.startswith(f"{_SMALL}=="))
    locked.write_text(f"# {uuid.uuid4()}\n{small}\n")
    return Recipe(context / "Dockerfile", context)


@pytest.fixture
def recipe_of(tmp_path: Path) -> Callable[[str], Recipe]:
    """Makes a recipe of the text of another Dockerfile."""

    def make(text: str) -> Recipe:
        context = tmp_path / "other"
        (context / "runtime" / "locks").mkdir(parents=True)
        (context / "runtime" / "locks" / "cpu.txt").touch()
        (context / "Dockerfile").write_text(f"ARG BASE_IMAGE\n{text}\n")
        return Recipe(context / "Dockerfile", context)

    return make


@pytest.fixture
def no_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for Docker's logins, and neither proxies nor certificates of this machine's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", *CA_VARIABLES):
        monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    directory = tmp_path / "docker"
    directory.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory


@pytest.fixture
def scripted(no_logins: Path) -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as registry:
        yield registry
