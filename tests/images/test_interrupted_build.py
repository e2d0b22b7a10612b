"""Builds that are killed: nothing is named that is not whole, the next one completes, and nothing of it stays."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from images import passing, references
from images.build import build
from images.engine import Engine
from images.errors import ImageError
from images.image_files import opened
from images.inputs import Recipe
from images.pull import pull
from images.spec import Destination, ImageSpec
from images.verify import verify
from tests.images.registries import real_registry

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def _quiet(_line: str) -> None:
    pass


def _nothing(_count: int) -> None:
    pass


def _killed(spec: ImageSpec, recipe: Recipe, destination: Destination, tmp_path: Path, at: str) -> list[str]:
    """What a build said that was killed when it said `at`."""
    order, said = tmp_path / "order", list[str]()
    order.write_bytes(pickle.dumps((spec, recipe, destination)))
    command = [sys.executable, "-m", "tests.images.building", str(order), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line.strip())
            if at in line:
                process.kill()
    return said


def _left(engine: Engine) -> list[str]:
    return [tag for image in engine.images() for tag in image.tags if tag.startswith("i2v-building:")]


def test_a_local_build_that_was_killed_names_nothing_and_the_next_completes(
    spec: ImageSpec, small_recipe: Recipe, engine: Engine, tmp_path: Path
) -> None:
    recipe = small_recipe.dockerfile.read_text()
    # The step lasts until the kill, and no longer the next time.
    small_recipe.dockerfile.write_text(recipe.replace("set -eu\n", "set -eu\n    echo here we are; sleep 30\n", 1))
    said = _killed(spec, small_recipe, Destination(), tmp_path, "here we are")
    assert "here we are" in said[-1]
    assert engine.find(spec.tag) is None
    small_recipe.dockerfile.write_text(recipe)
    build(spec, _quiet, recipe=small_recipe, scratch=tmp_path)
    assert engine.image(spec.tag).labels["i2v-setup.weights"] == "baked"


def test_a_push_that_was_killed_after_its_build_names_nothing_and_nothing_of_it_stays(
    spec: ImageSpec, small_recipe: Recipe, engine: Engine, tmp_path: Path, free_port: int
) -> None:
    with real_registry(tmp_path, free_port) as host:
        reference = references.parse(f"{host}/i2v:1")
        destination = Destination(push=str(reference))
        said = _killed(spec, small_recipe, destination, tmp_path, "exporting")
        assert "built" not in said
        with pytest.raises(ImageError, match="does not know the image"):
            pull(reference)
        build(spec, _quiet, recipe=small_recipe, destination=destination, scratch=tmp_path)
        assert verify(pull(reference), spec.model, _nothing).ok
    assert _left(engine) == []


def test_only_what_is_nobodys_any_more_is_removed(engine: Engine, base_image: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from images import passing; print(passing.name(), passing.owner())"],
        capture_output=True,
        text=True,
        check=True,
    )
    left, whose = ended.stdout.split()
    ours, elsewhere = passing.name(), left.replace(f":{whose.partition('-')[0]}", f":{'0' * 12}", 1)
    container = engine.client.containers.create(base_image, "none", labels={passing.LABEL: whose})
    for name in (left, ours, elsewhere):
        engine.client.images.get(base_image).tag(name)
    try:
        with opened(engine, base_image) as read:
            passing.sweep(engine)
            assert b"".join(read("/etc/debian_version"))
        assert set(_left(engine)) == {ours, elsewhere}
        assert not engine.client.containers.list(all=True, filters={"id": str(container.id)})
    finally:
        for name in (ours, elsewhere):
            engine.untag(name)
