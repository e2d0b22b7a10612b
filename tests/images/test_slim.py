import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from images import layout, slim
from images.build import build
from images.errors import ImageError
from images.layers import weight_layers
from images.oci import DOCKER_INDEX, INDEX, Image, bytes_of, compose
from images.pull import pull
from images.push import push
from images.references import parse
from images.spec import (
    MODEL_DIGEST_LABEL,
    MODEL_LABEL,
    VERSION_LABEL,
    WEIGHTS_LABEL,
    Built,
    Destination,
    ImageSpec,
    Slim,
)
from images.verify import labels_of, verify
from runtime import __version__
from runtime.models import ModelSpec
from tests.images.registries import (
    Answers,
    ScriptedRegistry,
    image_of,
    log_in,
    real_registry,
    tar_layer,
)
from tests.images.slims import slim_image


def _nothing(_: object) -> None:
    pass


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def model(small_model: ModelSpec) -> ModelSpec:
    """The small model, with what is known of its files kept apart from the files."""
    return replace(small_model, known=small_model.files)


@pytest.fixture
def without(model: ModelSpec) -> Image:
    """Made for this very model."""
    return slim_image(model)


@pytest.fixture
def real(no_logins: Path, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    with real_registry(tmp_path, free_port) as host:
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        yield host


def _filled(name: str, model: ModelSpec, known: Path, *, on_top: bool = False) -> Image:
    assert model.bundled
    weights = weight_layers(model, model.bundled, known)
    image, _ = slim.filled(slim.find(name, "amd64"), model, model.bundled, weights, on_top=on_top)
    return image


def _built(name: str, model: ModelSpec, destination: Destination, scratch: Path, tag: str = "i2v:1") -> Built:
    assert model.bundled
    scratch.mkdir(exist_ok=True)
    spec = ImageSpec(tag, "", "", model, model.bundled, {}, slim=slim.find(name, "amd64"))
    return build(spec, _nothing, destination=destination, scratch=scratch)


@pytest.mark.parametrize("on_top", [False, True])
@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_the_image_with_weights_is_what_it_claims(
    without: Image, model: ModelSpec, tmp_path: Path, name: str, on_top: bool
) -> None:
    layout.write(without, tmp_path / name)
    image = _filled(str(tmp_path / name), model, tmp_path / "known", on_top=on_top)
    verified = verify(image, model, _nothing)
    assert [row for row in verified.rows if not row.holds] == []
    held = {row.what for row in verified.rows}
    assert {"/app/runtime/locks/cpu.txt", "i2v-setup.weights.layers", "the model small in our catalogue"} < held
    config = json.loads(image.config.content)["config"]
    assert config["Env"] == ["PATH=/opt/venv/bin", "HOME=/data", "I2V_MODEL_ID=small"]
    before = labels_of(without)
    assert labels_of(image) == {**before, **labels_of(image), WEIGHTS_LABEL: "baked", MODEL_LABEL: "small"}
    taken = [layer.diff_id for layer in without.layers]
    there = [layer.diff_id for layer in image.layers]
    assert there[: len(taken)] == taken if on_top else there[-len(taken) :] == taken


def test_it_is_the_same_wherever_it_is_made_and_its_layers_are_not_read_for_it(
    without: Image, model: ModelSpec, tmp_path: Path, scripted: ScriptedRegistry
) -> None:
    scripted.holds(without)
    layout.write(without, tmp_path / "layout")
    layout.write(without, tmp_path / "layout.tar")
    assert model.bundled
    copy = shutil.copytree(model.bundled, tmp_path / "copy")
    moved = replace(model, manifest=str(copy / "manifest.json"))
    digests = {
        _filled(str(tmp_path / "layout"), model, tmp_path / "one").manifest.descriptor.digest,
        _filled(str(tmp_path / "layout.tar"), moved, tmp_path / "two").manifest.descriptor.digest,
        _filled(str(scripted.reference()), moved, tmp_path / "three").manifest.descriptor.digest,
    }
    assert len(digests) == 1
    assert [request.path.rpartition("/")[2] for request in scripted.asked("GET", "/blobs/")] == [
        without.config.descriptor.digest
    ]


def test_what_was_made_for_another_model_says_nothing_of_it_afterwards(model: ModelSpec, tmp_path: Path) -> None:
    labels = {MODEL_LABEL: "another", MODEL_DIGEST_LABEL: f"sha256:{'a' * 64}", "i2v-setup.model.licence": "none"}
    layout.write(slim_image(model, labels=labels), tmp_path / "layout")
    image = _filled(str(tmp_path / "layout"), model, tmp_path / "known")
    assert verify(image, model, _nothing).ok
    assert labels_of(image)["i2v-setup.model.licence"] == model.licence
    assert "another" not in image.config.content.decode()


@pytest.mark.parametrize(
    ("labels", "architecture", "told"),
    [
        ({WEIGHTS_LABEL: "baked"}, "amd64", "has weights in it already, those of small"),
        ({WEIGHTS_LABEL: None}, "amd64", "is nothing but the weights of small"),
        ({WEIGHTS_LABEL: None, MODEL_LABEL: None}, "amd64", "is no image of i2v-setup"),
        ({}, "s390x", "is not for linux/amd64, but for linux/s390x"),
    ],
)
def test_an_image_that_weights_cannot_be_put_into_is_refused(
    model: ModelSpec, tmp_path: Path, labels: dict[str, str | None], architecture: str, told: str
) -> None:
    path = tmp_path / "layout"
    layout.write(slim_image(model, architecture=architecture, labels=labels), path)
    with pytest.raises(ImageError, match=f"layout {told}") as caught:
        slim.find(str(path), "amd64")
    assert caught.value.hint


def test_on_a_registry_an_image_for_another_machine_is_refused(model: ModelSpec, scripted: ScriptedRegistry) -> None:
    scripted.holds(slim_image(model, architecture="arm64"))
    with pytest.raises(ImageError, match="not for linux/amd64, but for arm64"):
        slim.find(str(scripted.reference()), "amd64")


@pytest.mark.parametrize("kind", [INDEX, DOCKER_INDEX])
def test_of_an_image_for_many_machines_that_for_this_one_is_taken(
    model: ModelSpec, scripted: ScriptedRegistry, kind: str
) -> None:
    rows = []
    for architecture in ("arm64", "amd64"):
        one = slim_image(model, architecture=architecture)
        scripted.holds(one, architecture)
        platform = {"os": "linux", "architecture": architecture}
        rows.append({**one.manifest.descriptor.document(), "platform": platform})
    index = bytes_of(kind, {"schemaVersion": 2, "mediaType": kind, "manifests": rows})
    scripted.manifests["1"] = (kind, index.content)
    found = slim.find(str(scripted.reference()), "amd64")
    assert found.image.manifest.descriptor.digest == rows[1]["digest"]


@pytest.mark.parametrize(
    "config",
    [
        b'{"architecture": "amd64", "config": {"Labels": {"i2v-setup.weights": "mounted"}, "Env": [1]}}',
        b'{"architecture": "amd64", "config": {"Labels": {"i2v-setup.weights": "mounted"}, "Env": 7}}',
    ],
)
def test_a_malformed_configuration_is_said(model: ModelSpec, tmp_path: Path, config: bytes) -> None:
    image = compose(json.loads(config), [tar_layer({"a": b"b"})])
    with pytest.raises(ImageError, match="the configuration of some:1 is malformed"):
        slim.filled(Slim("some:1", image), model, Path("none"), (), on_top=False)


def test_what_is_nowhere_is_said(scripted: ScriptedRegistry, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"there is no file {scripted.host}.*does not know the image"):
        slim.find(f"{scripted.host}/none/such:1", "amd64")
    with pytest.raises(ImageError, match=r"there is no file .*none\.tar, and .* is not an image's name"):
        slim.find(str(tmp_path / "none.tar"), "amd64")


def test_a_registry_that_wants_a_login_says_how(
    no_logins: Path, tmp_path: Path, free_port: int, without: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    with real_registry(tmp_path, free_port, password=True) as host:
        with pytest.raises(ImageError, match="wants a name and a password") as caught:
            slim.find(f"{host}/some/slim:1", "amd64")
        assert caught.value.hint == f"log in first: docker login {host}"
        log_in(no_logins, host)
        push(without, parse(f"{host}/some/slim:1"), _nothing)
        assert slim.find(f"{host}/some/slim:1", "amd64").image.manifest == without.manifest


def test_only_another_version_that_was_made_for_another_model_is_doubted(model: ModelSpec) -> None:
    def doubt(**labels: str) -> str:
        return slim.doubt(Slim("some:1", slim_image(model, labels=labels)), model)

    other = {MODEL_LABEL: "another", MODEL_DIGEST_LABEL: f"sha256:{'a' * 64}"}
    assert doubt() == ""
    assert doubt(**other) == ""
    assert doubt(**{VERSION_LABEL: "0.0.1"}) == ""
    told = doubt(**{VERSION_LABEL: "0.0.1", **other})
    assert "some:1 has the runtime 0.0.1 and was made for another" in told
    assert f"this is {__version__}" in told


def test_what_lies_in_another_repository_of_the_registry_is_not_sent(
    real: str, without: Image, model: ModelSpec, tmp_path: Path
) -> None:
    push(without, parse(f"{real}/team/slim:1"), _nothing)
    log = tmp_path / "registry.log"
    before = len(log.read_text())
    built = _built(f"{real}/team/slim:1", model, Destination(push=f"{real}/team/baked:1"), tmp_path / "scratch")
    outcomes = [layer.outcome for layer in built.layers]
    assert outcomes == ["sent", "mounted", "mounted", "mounted"]
    asked = log.read_text()[before:]
    assert asked.count("?mount=sha256") == 3
    assert '"PUT /v2/team/baked/manifests/1 ' in asked
    for layer in without.layers:
        digest = layer.descriptor.digest
        assert f"GET /v2/team/slim/blobs/{digest}" not in asked
        assert not [line for line in asked.splitlines() if "PUT /v2/" in line and digest.partition(":")[2] in line]
    assert verify(pull(parse(f"{real}/team/baked:1")), model, _nothing).ok


def test_weights_that_went_to_another_repository_are_not_sent_again(
    real: str, without: Image, model: ModelSpec, tmp_path: Path
) -> None:
    layout.write(without, tmp_path / "slim.tar")
    assert model.bundled
    alone = ImageSpec("w:1", "", "", model, model.bundled, {}, "volume")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    build(alone, _nothing, destination=Destination(push=f"{real}/team/weights:1"), scratch=scratch)
    built = _built(str(tmp_path / "slim.tar"), model, Destination(push=f"{real}/team/baked:1"), scratch)
    assert [layer.outcome for layer in built.layers] == ["mounted", "sent", "sent", "sent"]
    again = _built(str(tmp_path / "slim.tar"), model, Destination(push=f"{real}/team/other:1"), scratch)
    assert {layer.outcome for layer in again.layers} == {"mounted"}


def test_from_one_registry_to_another_nothing_lies_on_the_disk(
    scripted: ScriptedRegistry, model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without, seen = slim_image(model, megabytes=12), list[int]()
    scratch, temporary = tmp_path / "scratch", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))

    def look(handler: Answers) -> bool:
        if handler.command == "PUT" and handler.take > 12 << 20:
            files = [path for directory in (scratch, temporary) for path in directory.rglob("*") if path.is_file()]
            seen.append(sum(path.stat().st_size for path in files))
        return False

    with ScriptedRegistry() as source:
        source.holds(without)
        scripted.before = look
        name = str(source.reference())
        built = _built(name, model, Destination(push=str(scripted.reference("team/baked:1"))), scratch)
    assert len(seen) == 1
    assert seen[0] < 10_000  # what is remembered of weights
    assert {layer.outcome for layer in built.layers} == {"sent"}
    assert {layer.digest for layer in built.layers} < set(scripted.blobs)


@pytest.mark.parametrize("name", ["result", "result.tar"])
def test_it_is_written_to_disk_from_a_registry(
    scripted: ScriptedRegistry, without: Image, model: ModelSpec, tmp_path: Path, name: str
) -> None:
    scripted.holds(without)
    target = tmp_path / name
    built = _built(str(scripted.reference()), model, Destination(output=target), tmp_path / "scratch", "i2v-small:1")
    found = layout.read(target, "i2v-small:1")
    assert found.manifest.descriptor.digest == built.image_id
    assert verify(found, model, _nothing).ok


def test_a_layer_that_the_registry_gives_wrong_reaches_no_image(
    scripted: ScriptedRegistry, without: Image, model: ModelSpec, tmp_path: Path
) -> None:
    scripted.holds(without)
    digest = without.layers[1].descriptor.digest
    scripted.blobs[digest] = bytes(len(scripted.blobs[digest]))
    with pytest.raises(ImageError, match=f"sends the blob {digest} wrong"):
        _built(str(scripted.reference()), model, Destination(output=tmp_path / "result.tar"), tmp_path / "scratch")
    assert not (tmp_path / "result.tar").exists()


def test_weights_that_are_not_here_are_said(without: Image, model: ModelSpec, tmp_path: Path) -> None:
    layout.write(without, tmp_path / "slim")
    spec = ImageSpec("i2v:1", "", "", model, tmp_path / "none", {}, slim=slim.find(str(tmp_path / "slim"), "amd64"))
    with pytest.raises(ImageError, match="a file of the model small is missing"):
        build(spec, _nothing, destination=Destination(output=tmp_path / "result"), scratch=tmp_path)


def test_an_image_of_somebody_else_is_refused(tmp_path: Path) -> None:
    layout.write(image_of(tar_layer({"a": b"b"})), tmp_path / "other")
    with pytest.raises(ImageError, match="is no image of i2v-setup"):
        slim.find(str(tmp_path / "other"), "amd64")
