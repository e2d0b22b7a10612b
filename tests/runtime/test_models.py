import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.models import MODELS, ModelMissing, ModelSpec, UnknownModel, model


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_each_row_lists_its_files_with_size_and_sha256(spec: ModelSpec) -> None:
    assert spec.files
    assert len({file.path for file in spec.files}) == len(spec.files)
    for file in spec.files:
        assert file.size > 0
        assert len(bytes.fromhex(file.sha256)) == 32
        assert not Path(file.path).is_absolute()
        assert ".." not in Path(file.path).parts
    weights = [file.path for file in spec.files if file.path.endswith(".safetensors")]
    assert weights
    assert spec.weight_bytes == sum(file.size for file in spec.files)


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
