import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from images.errors import ImageError
from images.layers import LARGE, weight_layers, weights_image
from images.oci import Image, Layer, digest_of
from runtime.models import ModelFile, ModelSpec


@pytest.fixture
def model(small_model: ModelSpec) -> ModelSpec:
    """The small model and two files that are large enough for layers of their own."""
    assert small_model.bundled
    files = [*small_model.files]
    for path in ("vae/b.safetensors", "unet/a.safetensors"):
        large = small_model.bundled / path
        large.parent.mkdir(exist_ok=True)
        with large.open("wb") as file:
            file.write(path.encode())
            file.truncate(LARGE + 1)
        files.append(ModelFile(path, LARGE + 1, hashlib.sha256(large.read_bytes()).hexdigest()))
    return replace(small_model, known=tuple(files))


@pytest.fixture
def directory(small_model: ModelSpec) -> Path:
    assert small_model.bundled
    return small_model.bundled


def _digests(layers: tuple[Layer, ...]) -> list[str]:
    return [layer.descriptor.digest for layer in layers]


def _members(layer: Layer) -> list[tuple[str, str, int]]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(layer.blob.read()))) as archive:
        return [(member.name, oct(member.mode), member.size) for member in archive]


def test_a_large_file_is_a_layer_and_the_small_ones_are_one(model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    first, second, small = weight_layers(model, directory, tmp_path / "known.json")
    top, unet = ("model", "0o755", 0), ("model/unet", "0o755", 0)
    assert _members(first) == [top, unet, ("model/unet/a.safetensors", "0o644", LARGE + 1)]
    assert _members(second) == [top, ("model/vae", "0o755", 0), ("model/vae/b.safetensors", "0o644", LARGE + 1)]
    listed = _members(small)[-1][2]
    assert _members(small) == [
        top,
        unet,
        ("model/config.json", "0o644", 2),
        ("model/unet/weights.safetensors", "0o644", 700),
        ("model/manifest.json", "0o644", listed),
    ]
    for layer in (first, second, small):
        content = b"".join(layer.blob.read())
        assert (layer.descriptor.digest, layer.descriptor.size) == (digest_of(content), len(content))
        assert layer.diff_id == layer.descriptor.digest


def test_the_list_of_installed_files_is_in_the_layer(model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    small = weight_layers(model, directory, tmp_path / "known.json")[-1]
    with tarfile.open(fileobj=io.BytesIO(b"".join(small.blob.read()))) as archive:
        listed = archive.extractfile("model/manifest.json")
        assert listed
        rows = {row["path"]: (row["size"], row["sha256"]) for row in json.load(listed)["files"]}
    assert rows == {file.path: (file.size, file.sha256) for file in model.files}


def test_the_same_files_give_the_same_layers_wherever_they_lie(
    model: ModelSpec, directory: Path, tmp_path: Path
) -> None:
    elsewhere, store = tmp_path / "elsewhere", tmp_path / "store"
    store.mkdir()
    for number, file in enumerate(model.files):
        (elsewhere / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(directory / file.path, store / str(number))
        os.utime(store / str(number), (number, number))
        (store / str(number)).chmod(0o400)
        (elsewhere / file.path).symlink_to(store / str(number))
    learnt = replace(model, known=tuple(replace(file, size=None) for file in reversed(model.files)))
    here = weight_layers(model, directory, tmp_path / "known.json")
    there = weight_layers(learnt, elsewhere, tmp_path / "other.json")
    assert _digests(here) == _digests(there)
    assert weights_image(model, here).manifest == weights_image(model, there).manifest


def test_layers_of_these_bytes_have_these_digests_for_ever(small_model: ModelSpec, tmp_path: Path) -> None:
    # What registries and nodes have is found again by these: see `_FORMAT`.
    assert small_model.bundled
    (layer,) = weight_layers(small_model, small_model.bundled, tmp_path / "known.json")
    assert layer.descriptor.digest == "sha256:0fcb4a650ddb501f22800d42d4d530bf1c88d2e3a403d30501baae9deeebaa95"


def test_known_layers_are_not_read_again(model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    read: list[int] = []
    first = weight_layers(model, directory, tmp_path / "known.json", read.append)
    assert sum(read) == model.weight_bytes
    again: list[int] = []
    assert _digests(weight_layers(model, directory, tmp_path / "known.json", again.append)) == _digests(first)
    assert again == []


def test_a_file_that_was_swapped_is_read_again(model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    weight_layers(model, directory, tmp_path / "known.json")
    large = directory / "unet" / "a.safetensors"
    status = large.stat()
    with (directory / "other").open("wb") as file:
        file.truncate(LARGE + 1)
    os.utime(directory / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    (directory / "other").replace(large)
    with pytest.raises(ImageError, match=r"damaged: .*a\.safetensors"):
        weight_layers(model, directory, tmp_path / "known.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "[" * 100_000, "\0"])
def test_a_damaged_list_of_known_layers_counts_as_empty(
    small_model: ModelSpec, directory: Path, tmp_path: Path, content: str
) -> None:
    known, read = tmp_path / "known.json", list[int]()
    first = weight_layers(small_model, directory, known)
    known.write_text(content)
    assert _digests(weight_layers(small_model, directory, known, read.append)) == _digests(first)
    assert sum(read) == 702
    assert len(json.loads(known.read_text())) >= 1


def test_a_known_digest_that_is_none_is_not_taken(small_model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    first = weight_layers(small_model, directory, known)
    known.write_text(known.read_text().replace(first[0].diff_id, "../../etc/passwd"))
    assert _digests(weight_layers(small_model, directory, known)) == _digests(first)


def test_no_place_for_known_layers_costs_time_only(small_model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert len(weight_layers(small_model, directory, tmp_path / "file" / "known.json")) == 1
    (tmp_path / "known.json").mkdir()
    assert len(weight_layers(small_model, directory, tmp_path / "known.json")) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_was_read_before_an_interrupt_is_known(model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    read: list[int] = []

    def interrupt(count: int) -> None:
        read.append(count)
        if sum(read) > LARGE + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weight_layers(model, directory, tmp_path / "known.json", interrupt)
    again: list[int] = []
    weight_layers(model, directory, tmp_path / "known.json", again.append)
    assert sum(again) == model.weight_bytes - LARGE - 1


def test_an_interrupt_ends_the_process(tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from images.blobs import FilePart, Stamp, hashing
        import hashlib
        def endless():
            while True:
                yield bytes(1 << 20)
        for number, _ in enumerate(hashing(endless(), hashlib.sha256())):
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert "KeyboardInterrupt" in done.stderr


def test_a_missing_file_of_the_model_is_named(small_model: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing: .*config\.json") as caught:
        weight_layers(small_model, tmp_path / "elsewhere", tmp_path / "known.json")
    assert "i2v-setup install --model small" in caught.value.hint


@pytest.mark.parametrize("content", [b"weights" * 99, b"weighty" * 100])
def test_a_damaged_file_of_the_model_is_named(
    small_model: ModelSpec, directory: Path, tmp_path: Path, content: bytes
) -> None:
    (directory / "unet" / "weights.safetensors").write_bytes(content)
    with pytest.raises(ImageError, match=r"damaged: .*weights\.safetensors") as caught:
        weight_layers(small_model, directory, tmp_path / "known.json")
    assert "i2v-setup install --model small" in caught.value.hint


def test_an_image_of_weights_says_which_they_are(model: ModelSpec, directory: Path, tmp_path: Path) -> None:
    layers = weight_layers(model, directory, tmp_path / "known.json")
    image = weights_image(model, layers)
    assert _labels(image) == {
        "i2v-setup.model": "small",
        "i2v-setup.model.digest": f"sha256:{model.digest}",
        "i2v-setup.model.licence": "Apache-2.0",
        "i2v-setup.weights.layers": ",".join(_digests(layers)),
    }


def _labels(image: Image) -> object:
    return json.loads(image.config.content)["config"]["Labels"]
