"""Images with weights in, below, beside or without them: built, delivered and looked into, on each store there is."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from images import build as images
from images import layout, slim
from images.build import build
from images.engine import Engine, connect
from images.errors import ImageError
from images.inputs import Recipe
from images.oci import LAYER, LAYER_ZSTD
from images.opening import open_image
from images.spec import Destination, ImageSpec
from images.verify import verify
from images.weights_base import REPOSITORY
from runtime.models import ModelFile, ModelSpec
from tests.images.registries import real_registry
from tests.images.slims import slim_image

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

_LARGE = 70 * 10**6  # bytes: a layer of its own
#: The address of a second engine whose images are in containerd's store.
_CONTAINERD = os.environ.get("I2V_TEST_CONTAINERD_ENGINE")


@pytest.fixture(params=["default", "containerd"])
def store(request: pytest.FixtureRequest, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Each engine in turn, as the one that the docker command uses."""
    if request.param == "default":
        yield engine
        return
    if not _CONTAINERD:
        pytest.skip("I2V_TEST_CONTAINERD_ENGINE names no second engine")
    monkeypatch.setenv("DOCKER_HOST", _CONTAINERD)
    with connect() as second:
        assert second.info().store == "containerd"
        yield second


@pytest.fixture
def large(small_model: ModelSpec, tmp_path: Path) -> ModelSpec:
    """A model with a file that has a layer of its own, unlike any other."""
    content = uuid.uuid4().bytes + bytes(_LARGE)
    directory = tmp_path / "model"
    (directory / "large.safetensors").write_bytes(content)
    row = {"path": "large.safetensors", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({"files": [*manifest["files"], row]}))
    return replace(small_model, title="Large")


@pytest.fixture
def wanted(spec: ImageSpec, large: ModelSpec, store: Engine) -> Iterator[ImageSpec]:
    """What to build; afterwards none of it is left in the engine."""
    before = {image.id for image in store.images()}
    yield replace(spec, model=large)
    for image in store.images():
        if image.id not in before:
            for name in image.tags:
                if name == spec.tag or name.startswith((f"{REPOSITORY}:", "127.0.0.1:")):
                    store.untag(name)


def _quiet(_line: str) -> None:
    pass


def _model_in(engine: Engine, image: str) -> dict[str, str]:
    """The sha256 of the files in /model, by path."""
    container = engine.client.containers.create(image)
    try:
        pieces, _ = container.get_archive("/model")
        archive = io.BytesIO(b"".join(pieces))
    finally:
        container.remove()
    found = {}
    with tarfile.open(fileobj=archive) as tar:
        for member in tar:
            if member.isfile():
                assert (member.uid, member.gid, member.mode & 0o777) == (0, 0, 0o644), member.name
                content = tar.extractfile(member)
                assert content
                found[member.name.removeprefix("model/")] = hashlib.sha256(content.read()).hexdigest()
    return found


def _files(model: ModelSpec) -> dict[str, str]:
    files: tuple[ModelFile, ...] = model.files
    return {file.path: str(file.sha256) for file in files}


def _check(engine: Engine, image: str, model: ModelSpec) -> None:
    found = _model_in(engine, image)
    assert found.pop("i2v-setup.json", None) or len(found) == len(model.files) + 1
    assert {path: found[path] for path in _files(model)} == _files(model)


def test_weights_lie_below_all_else_and_no_change_sends_them_again(
    wanted: ImageSpec, store: Engine, small_recipe: Recipe, tmp_path: Path
) -> None:
    first = build(wanted, _quiet, recipe=small_recipe, scratch=tmp_path)
    weights = [layer.digest for layer in first.layers]
    assert len(weights) == 2
    assert not any(layer.reused for layer in first.layers)
    image = store.image(wanted.tag)
    assert list(image.diff_ids[:2]) == weights
    assert image.labels["i2v-setup.weights.layers"] == ",".join(weights)
    _check(store, wanted.tag, wanted.model)

    (small_recipe.context / "runtime" / "models.py").write_text("# changed\n")
    directory = wanted.model_dir.rename(tmp_path / "renamed")
    for path in directory.rglob("*"):
        os.utime(path, (1, 1))
    again = build(replace(wanted, model_dir=directory), _quiet, recipe=small_recipe, scratch=tmp_path)
    assert again.image_id != first.image_id
    assert all(layer.reused for layer in again.layers)
    assert [layer.digest for layer in again.layers] == weights


def test_what_is_built_is_kept_as_it_is_read_fastest(
    wanted: ImageSpec, store: Engine, small_recipe: Recipe, tmp_path: Path
) -> None:
    build(replace(wanted, weights="mounted"), _quiet, recipe=small_recipe)
    saved = layout.read_stream(store.save(wanted.tag), tmp_path / "saved", wanted.tag)
    kinds = {layer.descriptor.media_type for layer in saved.layers[-2:]}
    assert kinds == {LAYER_ZSTD if store.info().store == "containerd" else LAYER}


def test_weights_on_top_leave_the_rest_to_be_shared(
    wanted: ImageSpec, store: Engine, small_recipe: Recipe, tmp_path: Path
) -> None:
    without = build(replace(wanted, weights="mounted"), _quiet, recipe=small_recipe)
    below = store.image(without.image_id).diff_ids[:-1]  # all but the list of what is in it, the model too
    built = build(replace(wanted, on_top=True), _quiet, recipe=small_recipe, scratch=tmp_path)
    assert all(layer.reused for layer in built.layers[: len(below)])
    assert [layer.reused for layer in built.layers[-2:]] == [False] * 2
    assert len(built.layers) == len(below) + 3
    assert store.image(wanted.tag).diff_ids[: len(below)] == below
    _check(store, wanted.tag, wanted.model)


def test_what_is_pushed_is_pulled_and_what_the_registry_has_is_not_sent(
    wanted: ImageSpec, store: Engine, small_recipe: Recipe, tmp_path: Path, free_port: int
) -> None:
    with real_registry(tmp_path, free_port) as host:
        reference = f"{host}/some/i2v:1"
        first = build(wanted, _quiet, destination=Destination(push=reference), recipe=small_recipe, scratch=tmp_path)
        assert not any(layer.reused for layer in first.layers)
        assert store.find(wanted.tag) is None
        assert first.warnings == ()
        store.client.images.pull(f"{host}/some/i2v", "1")
        assert store.image(reference).digest == first.image_id
        with open_image(reference, _quiet, scratch=tmp_path) as image:
            verified = verify(image, None, lambda _size: None)
        assert verified.ok, [row for row in verified.rows if not row.holds]
        assert "packages in the SBOM" in {row.what for row in verified.rows}
        _check(store, reference, wanted.model)
        store.untag(reference)

        (small_recipe.context / "runtime" / "models.py").write_text("# changed\n")
        again = build(wanted, _quiet, destination=Destination(push=reference), recipe=small_recipe, scratch=tmp_path)
        sent = [layer for layer in again.layers if not layer.reused]
        assert sent
        assert sum(layer.size for layer in sent) < 10**7
        assert not [image for image in store.images() if any("i2v-building" in name for name in image.tags)]


def test_an_image_that_is_there_gets_its_weights_into_the_engine(
    large: ModelSpec, store: Engine, tmp_path: Path
) -> None:
    assert large.bundled
    layout.write(slim_image(large), tmp_path / "slim.tar")
    there, name = slim.find(str(tmp_path / "slim.tar"), "amd64"), f"i2v-filled-{uuid.uuid4().hex[:12]}"
    below = ImageSpec(f"{name}:below", "", "", large, large.bundled, {}, slim=there)
    on_top = replace(below, tag=f"{name}:on-top", on_top=True)
    try:
        first = build(below, _quiet, scratch=tmp_path)
        assert [layer.outcome for layer in first.layers] == ["sent"] * 5
        assert store.image(below.tag).labels["i2v-setup.weights"] == "baked"
        _check(store, below.tag, large)
        assert build(on_top, _quiet, scratch=tmp_path).image_id != first.image_id
        _check(store, on_top.tag, large)
    finally:
        for tag in (below.tag, on_top.tag):  # by name: others may use the engine too
            store.untag(tag)


def test_a_layout_is_loaded_as_the_image_that_it_is(
    wanted: ImageSpec, store: Engine, small_recipe: Recipe, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    build(wanted, _quiet, destination=Destination(output=archive), recipe=small_recipe, scratch=tmp_path)
    assert store.find(wanted.tag) is None
    done = subprocess.run(["docker", "load", "--input", archive], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _check(store, wanted.tag, wanted.model)
    directory = tmp_path / "layout"
    build(wanted, _quiet, destination=Destination(output=directory), recipe=small_recipe, scratch=tmp_path)
    read = layout.read(directory, wanted.tag)
    assert [layer.diff_id for layer in read.layers] == list(store.image(wanted.tag).diff_ids)


def test_weights_alone_need_no_engine_and_are_the_same_everywhere(
    small_model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert small_model.bundled
    digests = set()
    for name in ("one", "two"):
        copy = tmp_path / name
        subprocess.run(["cp", "-r", small_model.bundled, copy], check=True)
        spec = ImageSpec("i2v-weights-only:1", "none", "cpu", small_model, copy, {}, "volume")
        digests.add(build(spec, _quiet, destination=Destination(output=tmp_path / f"{name}.tar")).image_id)
    assert len(digests) == 1
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_damaged_model_is_never_put_into_an_image(wanted: ImageSpec, store: Engine, small_recipe: Recipe) -> None:
    path = wanted.model_dir / "large.safetensors"
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    with pytest.raises(ImageError, match=r"damaged: .*large\.safetensors"):
        build(wanted, _quiet, recipe=small_recipe)
    path.unlink()
    with pytest.raises(ImageError, match=r"missing: .*large\.safetensors"):
        build(wanted, _quiet, recipe=small_recipe)
    assert store.find(wanted.tag) is None


def test_the_plan_says_where_the_weights_go(small_model: ModelSpec) -> None:
    def told(destination: Destination | None = None, **changed: object) -> str:
        spec = replace(ImageSpec("i2v:1", "base:1", "cpu", small_model, Path("none"), {}), **changed)  # type: ignore[arg-type]
        return "\n".join(f"{step.title}: {step.detail}" for step in images.plan(spec, destination=destination))

    assert "below all else" in told()
    assert "on top" in told(on_top=True)
    assert "mounted when it runs" in told(weights="mounted")
    assert "packages" not in told(weights="volume")
    assert "in the Docker engine" in told()
    sent = told(Destination("some.registry/i2v:1", Path("out.tar")))
    assert "push: some.registry/i2v:1" in sent
    assert "write: out.tar" in sent
    assert "in the Docker engine" not in sent
