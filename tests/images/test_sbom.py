from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images import sbom
from images.build import build
from images.engine import Engine
from images.errors import ImageError
from images.inputs import Recipe, shipped_recipe
from images.oci import Bytes
from images.opening import open_image
from images.packages import installed
from images.spec import SBOM_DIGEST_LABEL, SBOM_PATH, ImageSpec
from images.verify import verify
from mirrors import lock
from runtime import __version__
from runtime.models import MODELS, ModelSpec
from tests.conftest import ROOT

_BASE = f"sha256:{'0' * 64}"


@pytest.fixture
def wanted(small_model: ModelSpec) -> ImageSpec:
    """An image of all the packages of a lock; where their wheels lie does not matter, since the lock names them."""
    assert small_model.bundled
    wheels = {wheel: Path("none") for wheel in (_a_wheel(pin) for pin in _pins())}
    return ImageSpec("i2v:1", "some/base:1", "cpu", small_model, small_model.bundled, wheels)


def _pins() -> list[lock.Pin]:
    environment = {"python_version": "3.11", "python_full_version": "3.11.0"}
    return list(lock.read(shipped_recipe().lock("cpu"), environment))


def _a_wheel(pin: lock.Pin) -> str:
    return sorted(name for name, _ in pin.names)[0]


def _of(spec: ImageSpec) -> Bytes:
    return sbom.of_image(spec, shipped_recipe().lock(spec.torch_build), _BASE)


def _document(found: Bytes) -> dict[str, Any]:
    return dict(json.loads(found.content))


def _part(found: Bytes, ref: str) -> dict[str, Any]:
    return dict(next(row for row in _document(found)["components"] if row["bom-ref"] == ref))


def _assert_valid(found: Bytes) -> None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(found.content.decode())
    assert error is None, error


def test_it_names_each_package_by_the_wheel_of_the_lock(wanted: ImageSpec) -> None:
    listed = {row["name"]: row for row in _document(_of(wanted))["components"] if row["type"] == "library"}
    assert set(listed) == {pin.name for pin in _pins()}
    for pin in _pins():
        row = listed[pin.name]
        assert row["version"] == pin.version
        assert row["purl"] == f"pkg:pypi/{pin.name}@{pin.version.replace('+', '%2B')}"
        assert row["hashes"] == [{"alg": "SHA-256", "content": dict(pin.names)[_a_wheel(pin)]}]


def test_it_names_the_base_the_runtime_and_each_file_of_the_model(wanted: ImageSpec) -> None:
    found = _of(wanted)
    assert _part(found, "base") == {
        "bom-ref": "base",
        "type": "container",
        "name": "some/base:1",
        "version": _BASE,
    }
    assert _part(found, "runtime")["version"] == __version__
    files = _part(found, "model")["components"]
    assert [
        (row["name"], row["hashes"][0]["content"], row["properties"][0]["value"], row["type"]) for row in files
    ] == [(file.path, file.sha256, str(file.size), "file") for file in wanted.model.files]
    everything = {row["bom-ref"] for row in _document(found)["components"]}
    [depends] = _document(found)["dependencies"]
    assert (depends["ref"], set(depends["dependsOn"])) == ("image", everything)


def test_weights_that_are_not_in_the_image_are_not_listed_as_if_they_were(wanted: ImageSpec) -> None:
    found = _of(replace(wanted, weights="mounted", model_dir=Path("none")))
    assert "components" not in _part(found, "model")
    _assert_valid(found)


@pytest.mark.parametrize("torch_build", ["cpu", "cu130", "rocm7.2"])
def test_it_is_valid_whatever_the_lock(torch_build: str, wanted: ImageSpec) -> None:
    pins = lock.read(shipped_recipe().lock(torch_build), {"python_full_version": "3.11.0", "python_version": "3.11"})
    wheels = {_a_wheel(pin): Path("none") for pin in pins}
    found = _of(replace(wanted, torch_build=torch_build, wheels=wheels))
    assert len(_document(found)["components"]) == len(list(installed(wheels, shipped_recipe().lock(torch_build)))) + 3
    _assert_valid(found)


@pytest.mark.parametrize("name", MODELS)
def test_it_says_of_a_model_what_its_publisher_does(name: str, small_model: ModelSpec) -> None:
    assert small_model.bundled
    model = replace(MODELS[name], known=small_model.files)
    found = sbom.of_weights(model, small_model.bundled)
    _assert_valid(found)
    part = _part(found, "model")
    [licence] = part["licenses"]
    assert str(next(iter(licence["license"].values()))).lower() == str(model.licence).lower()
    assert part.get("version") == model.revision
    assert part.get("purl") == (f"pkg:huggingface/{model.repo}@{model.revision}" if model.repo else None)


def test_a_file_from_another_repository_says_so(tmp_path: Path) -> None:
    rows = ((model, file) for model in MODELS.values() for file in model.files)
    model, other = next((row, file) for row, file in rows if file.origin and file.origin.repo != row.repo)
    assert other.origin
    path = tmp_path / other.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"file")
    known = replace(other, size=4, sha256=hashlib.sha256(b"file").hexdigest())
    [row] = _part(sbom.of_weights(replace(model, known=(known,)), tmp_path), "model")["components"]
    said = {each["name"]: each["value"] for each in row["properties"]}
    assert said["i2v-setup.origin"] == f"{other.origin.repo}@{other.origin.revision}/{other.origin.path}"


def test_same_inputs_give_the_same_bytes_in_any_process(wanted: ImageSpec, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(wanted.model_dir, copy, copy_function=shutil.copyfile)
    moved = replace(wanted, tag="other:2", model_dir=copy, wheels=dict(reversed(list(wanted.wheels.items()))))
    (tmp_path / "spec").write_bytes(pickle.dumps(moved))
    code = (
        "import sys, pickle; from pathlib import Path\n"
        "from images import sbom; from images.inputs import shipped_recipe\n"
        "spec = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "sys.stdout.buffer.write(sbom.of_image(spec, shipped_recipe().lock('cpu'), sys.argv[2]).content)"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "spec", _BASE],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"},
            capture_output=True,
            check=True,
        )
        assert done.stdout == _of(wanted).content


def test_another_image_has_another_serial_number(wanted: ImageSpec) -> None:
    wheels = dict(list(wanted.wheels.items())[1:])
    others = [wanted, replace(wanted, wheels=wheels), replace(wanted, base_image="other"), replace(wanted, on_top=True)]
    serials = [_document(_of(spec))["serialNumber"] for spec in others]
    assert len(set(serials)) == 3
    assert serials[0] == serials[3]  # the same things in another order of layers


def test_a_file_that_is_missing_is_told(wanted: ImageSpec) -> None:
    (wanted.model_dir / wanted.model.files[0].path).unlink()
    with pytest.raises(ImageError, match="missing"):
        _of(wanted)


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_an_image_has_its_list_in_it_and_verifies_by_it(
    spec: ImageSpec, small_recipe: Recipe, engine: Engine, tmp_path: Path
) -> None:
    build(spec, lambda _line: None, recipe=small_recipe, scratch=tmp_path)
    # A list of the same size: what the first build was given must not be taken for it.
    locked = small_recipe.lock("cpu")
    locked.write_text(f"# {uuid.uuid4()}\n{locked.read_text().partition(chr(10))[2]}")
    build(spec, lambda _line: None, recipe=small_recipe, scratch=tmp_path)
    read = engine.client.containers.run(spec.tag, [f"/{SBOM_PATH}"], entrypoint="cat", remove=True)  # as nobody
    base = engine.image(spec.base_image).digest
    assert read == sbom.of_image(spec, small_recipe.lock("cpu"), base).content
    assert engine.image(spec.tag).labels[SBOM_DIGEST_LABEL] == f"sha256:{hashlib.sha256(read).hexdigest()}"
    assert [row["name"] for row in json.loads(read)["components"] if row["type"] == "library"] == ["annotated-doc"]
    assert _holding(spec.tag, tmp_path) >= {"labels in the SBOM", "packages in the SBOM", "wheels in the SBOM"}

    more = "COPY --chown=0:0 more /opt/venv/lib/python3.11/site-packages/more-1.dist-info/METADATA"
    less = "RUN rm -r /opt/venv/lib/python3.11/site-packages/annotated_doc-*.dist-info"
    _build_on(spec.tag, f"USER 0\n{more}\n{less}\n", tmp_path)
    with open_image(spec.tag, lambda _line: None, scratch=tmp_path) as image:
        wrong = {row.what for row in verify(image, None, lambda _size: None).rows if not row.holds}
    assert wrong == {"packages in the SBOM: more", "packages in the SBOM: annotated-doc"}


def _holding(tag: str, scratch: Path) -> set[str]:
    with open_image(tag, lambda _line: None, scratch=scratch) as image:
        found = verify(image, None, lambda _size: None)
    assert found.ok, [row for row in found.rows if not row.holds]
    return {row.what for row in found.rows}


def _build_on(tag: str, text: str, directory: Path) -> None:
    """The image of that name with something on top, under the same name."""
    context = directory / "on-top"
    context.mkdir()
    (context / "more").write_text("Name: more\n")
    (context / "Dockerfile").write_text(f"FROM {tag}\n{text}")
    command = ["docker", "buildx", "build", "--quiet", "--load", "--provenance=false", f"--tag={tag}", str(context)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
