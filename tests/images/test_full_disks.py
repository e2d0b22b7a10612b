"""Builds and deliveries where a real disk runs full: the scratch directory's, and the engine's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.build import build
from images.deliver import deliver
from images.engine import Engine, connect
from images.errors import ImageError
from images.inputs import Recipe
from images.spec import Destination, ImageSpec
from runtime.models import ModelSpec
from tests.images.engines import an_engine
from tests.images.layers import image, layer
from tests.loop_disk import leave, loop_disk

pytestmark = pytest.mark.docker


@pytest.fixture(params=["pull", "load"])
def small_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with a disk of 40 MB, which is given images in the one way or in the other."""
    with an_engine(40, apart=request.param == "load") as address:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", address)
            connected = connect()
        with connected as engine:
            yield engine


@pytest.mark.parametrize("kilobytes", [0, 500, 30_000])
def test_a_scratch_directory_that_is_full_is_said(
    engine: Engine, spec: ImageSpec, small_recipe: Recipe, tmp_path: Path, kilobytes: int
) -> None:
    target = tmp_path / "image.tar"
    with loop_disk(tmp_path / "disk", tmp_path / "mount", 64) as mount:
        leave(mount, kilobytes)
        with pytest.raises(ImageError, match=r"the disk that holds .*mount.* is full") as caught:
            build(spec, lambda _line: None, destination=Destination(output=target), recipe=small_recipe, scratch=mount)
        assert not list(mount.glob("i2v-image-*"))
    assert "make room" in caught.value.hint
    assert not target.exists()
    assert not [name for found in engine.images() for name in found.tags if name.startswith(("i2v-building", spec.tag))]


def test_an_engine_whose_disk_is_full_takes_no_image(small_engine: Engine) -> None:
    tag = f"i2v-test:{uuid.uuid4().hex[:12]}"
    with pytest.raises(ImageError, match="there is no space left for the image") as caught:
        deliver(small_engine, image([layer("a", 30 << 20), layer("b", 30 << 20)]), tag, lambda _size: None)
    assert "docker system df" in caught.value.hint
    assert list(small_engine.images()) == []
    deliver(small_engine, image([layer("a", 3 << 20)]), tag, lambda _size: None)  # it goes on working


def test_a_build_in_an_engine_whose_disk_runs_full_is_said_and_tags_nothing(
    small_model: ModelSpec, recipe_of: Callable[[str], Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("FROM scratch\nCOPY large /")
    (recipe.context / "large").write_bytes(os.urandom(60 << 20))
    spec = ImageSpec("i2v-test:full", "i2v-test:base", "cpu", small_model, Path("none"), {}, "mounted")
    with an_engine(40, apart=True) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        with connect() as engine:
            deliver(engine, image([layer("a", 1 << 20)]), spec.base_image, lambda _size: None)
        with pytest.raises(ImageError, match="there is no space left for the image") as caught:
            build(spec, lambda _line: None, recipe=recipe)
        with connect() as engine:
            assert [found.tags for found in engine.images()] == [(spec.base_image,)]
    assert "docker system df" in caught.value.hint
