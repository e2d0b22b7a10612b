"""A real engine, a base image, and models and recipes that are small."""

import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import getproxies

import pytest
import requests
from docker.errors import ImageNotFound, NotFound
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from images.container import Container
from images.engine import Engine
from images.inputs import Recipe, shipped_recipe
from images.spec import ImageSpec, Packages
from mirrors import catalogue, lock
from runtime.models import ModelSpec


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    """A name for an image, which is removed afterwards with every image that bore it."""
    name = f"i2v-test:{uuid.uuid4().hex[:12]}"
    before = {image.id for image in engine.client.images.list()}
    yield name
    for image in engine.client.images.list(all=False):
        if image.id not in before and (name in image.tags or not image.tags):
            try:
                engine.client.images.remove(str(image.id), force=True)
            except ImageNotFound:
                continue


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
def packages() -> Packages:
    """Where this machine gets its packages, as its environment says.

    torch for CPU is on its makers' own index only, unless it lies here as a wheel.
    """
    bundle, links = os.environ.get("SSL_CERT_FILE"), os.environ.get("PIP_FIND_LINKS")
    pins = lock.read(shipped_recipe().lock("cpu"))
    wheels = lock.local_wheels(pins, [Path(link) for link in links.split()], "3.11") if links else {}
    makers = next(row for row in catalogue.mirrors("pytorch") if row.upstream)
    return Packages(
        index_url=os.environ.get("PIP_INDEX_URL") or PYPI_SIMPLE_ENDPOINT,
        extra_index_urls=() if wheels else (catalogue.with_variant(makers, "cpu").url,),
        wheels=tuple(wheels.values()),
        ca_bundle=Path(bundle) if bundle else None,
        proxies=getproxies(),
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
        pipeline="I2VGenXLPipeline",
        repo=None,
        revision=None,
        licence="Apache-2.0",
        gated=False,
        precision="fp16",
        note="",
        manifest=str(directory / "manifest.json"),
    )


@pytest.fixture
def spec(tag: str, base_image: str, small_model: ModelSpec, packages: Packages) -> ImageSpec:
    assert small_model.bundled
    return ImageSpec(tag, base_image, "cpu", small_model, small_model.bundled, packages)


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
    small = next(line for line in requirements if line.startswith("annotated-doc=="))
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
