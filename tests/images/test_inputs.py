import json
from dataclasses import replace
from pathlib import Path

import pytest

from images.errors import ImageError
from images.inputs import Recipe, place_model, place_wheels, shipped_recipe
from runtime.models import ModelSpec


def test_only_the_files_of_the_model_are_handed_over_and_a_list_of_them(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    place_model(small_model, small_model.bundled, tmp_path / "given")
    given = sorted(path.relative_to(tmp_path / "given").as_posix() for path in (tmp_path / "given").rglob("*.*"))
    assert given == ["config.json", "manifest.json", "unet/weights.safetensors"]
    listed = json.loads((tmp_path / "given" / "manifest.json").read_text())
    assert [(row["path"], row["size"]) for row in listed["files"]] == [
        ("config.json", 2),
        ("unet/weights.safetensors", 700),
    ]


def test_files_whose_sha256_was_learnt_are_held_against_it(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    learnt = replace(small_model, known=tuple(replace(file, size=None) for file in small_model.files))
    place_model(learnt, small_model.bundled, tmp_path / "given")
    wrong = replace(small_model, known=tuple(replace(file, sha256="ab" * 32) for file in small_model.files))
    with pytest.raises(ImageError, match=r"damaged: .*config\.json"):
        place_model(wrong, small_model.bundled, tmp_path / "again")


def test_a_model_of_links_into_a_store_is_handed_over_as_files(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    linked = tmp_path / "linked"
    for file in small_model.files:
        (linked / file.path).parent.mkdir(parents=True, exist_ok=True)
        (linked / file.path).symlink_to(small_model.bundled / file.path)
    place_model(small_model, linked, tmp_path / "given")
    assert not any((tmp_path / "given" / file.path).is_symlink() for file in small_model.files)


def test_a_missing_file_of_the_model_is_named(tmp_path: Path, small_model: ModelSpec) -> None:
    with pytest.raises(ImageError, match=r"missing: .*config\.json") as caught:
        place_model(small_model, tmp_path / "elsewhere", tmp_path / "given")
    assert "i2v-setup install --model small" in caught.value.hint


def test_a_damaged_file_of_the_model_is_named(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    weights = small_model.bundled / "unet" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ImageError, match=r"damaged: .*weights\.safetensors"):
        place_model(small_model, small_model.bundled, tmp_path / "given")


def test_an_unknown_torch_build_names_those_that_there_are() -> None:
    with pytest.raises(ImageError, match="cu1") as caught:
        shipped_recipe().lock("cu1")
    assert "cpu" in caught.value.hint


def test_a_path_is_no_torch_build(tmp_path: Path) -> None:
    (tmp_path / "runtime" / "locks").mkdir(parents=True)
    (tmp_path / "secret.txt").touch()
    with pytest.raises(ImageError):
        Recipe(tmp_path / "Dockerfile", tmp_path).lock("../../secret")


def test_originals_keep_their_modes(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    private = small_model.bundled / "config.json"
    private.chmod(0o600)
    place_model(small_model, small_model.bundled, tmp_path / "given")
    assert private.stat().st_mode & 0o777 == 0o600


def test_wheels_are_handed_over_under_their_own_names(tmp_path: Path) -> None:
    stored = tmp_path / "5e3f"
    stored.write_bytes(b"wheel")
    stored.chmod(0o444)
    place_wheels({"a-1-py3-none-any.whl": stored}, tmp_path / "given")
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["a-1-py3-none-any.whl"]
    assert stored.samefile(tmp_path / "given" / "a-1-py3-none-any.whl")
    assert stored.stat().st_mode & 0o777 == 0o444


def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"wheel a-1-py3-none-any\.whl is missing: .*5e3f"):
        place_wheels({"a-1-py3-none-any.whl": tmp_path / "5e3f"}, tmp_path / "given")


def test_no_name_of_a_wheel_leads_out_of_the_directory(tmp_path: Path) -> None:
    stored = tmp_path / "5e3f"
    stored.touch()
    with pytest.raises(ImageError, match="no name of a wheel"):
        place_wheels({"../a-1-py3-none-any.whl": stored}, tmp_path / "given")
    assert not (tmp_path / "a-1-py3-none-any.whl").exists()
