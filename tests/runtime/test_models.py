import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.models import (
    INSTALLED,
    MODELS,
    HashesUnknown,
    ModelMissing,
    ModelSpec,
    UnknownModel,
    as_installed,
    installed,
    model,
)

SURE = {"page and others", "page or several lists", "content read, git blob"}
UNSURE = {"one list", "content read"}
PUBLISHED = [spec for spec in MODELS.values() if spec.repo is not None]
COMPLETE = ["demo"]


def document(spec: ModelSpec) -> dict[str, Any]:
    assert spec.manifest is not None
    found: dict[str, Any] = json.loads((Path(runtime.__file__).parent / spec.manifest).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_each_row_lists_its_files(spec: ModelSpec) -> None:
    assert len({file.path for file in spec.files}) == len(spec.files)
    assert [file.path for file in spec.files] == sorted(file.path for file in spec.files)
    for file in spec.files:
        assert file.size is None or file.size > 0
        assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
        assert file.likely is None or len(bytes.fromhex(file.likely)) == 32
        assert not (file.sha256 and file.likely)
        assert not Path(file.path).is_absolute()
        assert ".." not in Path(file.path).parts
        assert file.path.endswith((".json", ".txt", ".model", ".safetensors"))  # nothing that runs code when it is read
    weights = [file for file in spec.files if file.path.endswith(".safetensors")]
    assert weights
    assert all(file.about for file in weights)
    assert spec.weight_bytes == sum(file.about for file in spec.files)
    assert spec.complete is (spec.id in COMPLETE)


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.id)
def test_each_manifest_says_how_sure_each_sha256_is(spec: ModelSpec) -> None:
    found = document(spec)
    assert (found["repo"], found["revision"]) == (spec.repo, spec.revision)
    assert found["files"] == sorted(found["files"], key=lambda row: row["path"])
    for row in found["files"]:
        assert row.keys() <= {
            "path", "size", "about", "sha256", "likely", "evidence", "optional", "repo", "revision", "from"
        }  # fmt: skip
        assert ("evidence" in row) is ("sha256" in row or "likely" in row)
        assert row.get("evidence") in (SURE if "sha256" in row else UNSURE if "likely" in row else {None})
        assert not ("size" in row and "about" in row)
        assert ("repo" in row) is ("revision" in row) is ("from" in row)
        assert not (row.get("optional") and ("sha256" in row or "likely" in row))
    for file in spec.files:
        assert file.origin is not None
        assert len(bytes.fromhex(file.origin.revision)) == 20


@pytest.mark.parametrize(
    ("model_id", "total"), [("svd", 4_509_188_849), ("svd-xt", 4_509_188_841), ("wan2.2-ti2v-5b", 34_201_418_400)]
)
def test_sizes_add_up_to_what_others_counted(model_id: str, total: int) -> None:
    assert model(model_id).exact
    assert model(model_id).weight_bytes == total


def test_each_manifest_belongs_to_a_row() -> None:
    folder = Path(runtime.__file__).parent / "manifests"
    assert {f"manifests/{path.name}" for path in folder.iterdir()} == {spec.manifest for spec in PUBLISHED}


def test_the_files_of_one_model_may_come_from_several_repositories() -> None:
    origins = {file.path: file.origin for file in model("animatediff").files}
    config, unet = origins["motion_adapter/config.json"], origins["unet/config.json"]
    assert config is not None
    assert unet is not None
    assert (config.repo, config.path) == ("guoyww/animatediff-motion-adapter-v1-5-2", "config.json")
    assert (unet.repo, unet.path) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", "unet/config.json")


def test_the_bundled_files_are_those_of_the_manifest() -> None:
    spec = model("demo")
    assert spec.bundled is not None
    for file in spec.files:
        content = (spec.bundled / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
    listed = {file.path for file in spec.files} | {"manifest.json"}
    assert {path.relative_to(spec.bundled).as_posix() for path in spec.bundled.rglob("*") if path.is_file()} == listed


def test_the_digest_names_the_set_of_files() -> None:
    demo = model("demo")
    assert len(bytes.fromhex(demo.digest)) == 32
    assert demo.digest == replace(demo, title="another title").digest
    assert demo.digest != replace(demo, manifest=None).digest
    assert demo.digest == replace(demo, known=tuple(replace(file, size=None) for file in demo.files)).digest


def test_there_is_no_digest_of_bytes_that_are_not_known() -> None:
    with pytest.raises(HashesUnknown, match="i2vgen-xl") as raised:
        _ = model("i2vgen-xl").digest
    assert "install" in raised.value.hint


def test_an_unknown_model_names_those_that_are_known() -> None:
    with pytest.raises(UnknownModel, match="'sora'") as raised:
        model("sora")
    assert "demo" in raised.value.hint


def test_a_directory_without_the_files_is_told_with_the_first_that_is_missing(tmp_path: Path) -> None:
    demo = model("demo")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ModelMissing, match=f"{len(demo.files)} of {len(demo.files)} files") as raised:
        demo.check(tmp_path)
    assert demo.files[0].path in str(raised.value)
    assert "install" in raised.value.hint


def test_a_directory_fills_in_what_the_row_leaves_open(tmp_path: Path) -> None:
    row = model("svd-xt")
    files = [replace(file, sha256=file.sha256 or "ab" * 32) for file in row.files]
    (tmp_path / INSTALLED).write_text(as_installed(row.id, files))
    found = installed(row.id, tmp_path)
    assert found.complete
    assert {file.sha256 for file in found.files} == {file.sha256 for file in files}
    assert {file.path: file.origin for file in found.files} == {file.path: file.origin for file in row.files}
    assert found.digest == replace(row, known=tuple(files)).digest


def test_a_directory_that_speaks_of_other_bytes_than_the_row_is_not_believed(tmp_path: Path) -> None:
    row = model("svd-xt")
    files = [replace(file, sha256="ab" * 32) for file in row.files]
    (tmp_path / INSTALLED).write_text(as_installed(row.id, files))
    with pytest.raises(ModelMissing, match="another"):
        installed(row.id, tmp_path)
    (tmp_path / INSTALLED).write_text(as_installed(row.id, files[1:]))
    with pytest.raises(ModelMissing, match=f"lacks {row.files[0].path}"):
        installed(row.id, tmp_path)


@pytest.mark.parametrize("text", [None, "", "{}", '{"files": 1}', '{"files": [{"path": "a"}]}'])
def test_a_directory_may_say_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / INSTALLED).write_text(text)
    assert installed("svd-xt", tmp_path) == model("svd-xt")
