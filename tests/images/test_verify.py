import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from images import layout, tars
from images.deliver import deliver
from images.engine import Engine
from images.errors import ImageError
from images.layers import weight_layers, weights_image
from images.oci import LAYER_GZIP, LAYER_ZSTD, Image, Layer, compose, digest_of
from images.opening import open_image
from images.push import push
from images.references import parse
from images.spec import (
    LOCK_DIGEST_LABEL,
    LOCK_LABEL,
    MODEL_DIGEST_LABEL,
    MODEL_LABEL,
    WEIGHT_LAYERS_LABEL,
    WEIGHTS_LABEL,
)
from images.verify import Verified, verify
from runtime.models import ModelSpec, digest_of_files
from tests.images.registries import Counted, content, counted, image_of, memory, real_registry, tar_layer

_WEIGHTS = "unet/weights.safetensors"
_CATALOGUE = "the model small in our catalogue"


@pytest.fixture
def model(small_model: ModelSpec) -> ModelSpec:
    """The small model, with what is known of its files kept apart from the files."""
    return replace(small_model, known=small_model.files)


@pytest.fixture
def image(model: ModelSpec, tmp_path: Path) -> Image:
    """The model's weights alone."""
    assert model.bundled
    return weights_image(model, weight_layers(model, model.bundled, tmp_path / "known.json"))


def _nothing(_: object) -> None:
    pass


def _wrong(verified: Verified) -> set[str]:
    wrong = {row.what for row in verified.rows if not row.holds}
    assert verified.ok == (not wrong)
    return wrong


def _checked(image: Image, model: ModelSpec | None = None) -> set[str]:
    return _wrong(verify(image, model, _nothing))


def _found(image: Image, what: str) -> str:
    return next(row.found for row in verify(image, None, _nothing).rows if row.what == what)


def _with(image: Image, layers: Sequence[Layer], **labels: str) -> Image:
    """Another image of these layers that says the same of itself, with other labels where some are given."""
    config = json.loads(image.config.content)
    config["config"]["Labels"] |= labels
    return compose(config, layers)


def _labelled(labels: Mapping[str, str], *layers: Layer) -> Image:
    return compose({"architecture": "amd64", "os": "linux", "config": {"Labels": dict(labels)}}, layers)


def _layer(tar: bytes) -> Layer:
    blob = counted(tar)
    return Layer(blob, blob.descriptor.digest)


def _tar(*members: tuple[str, bytes, bytes | str]) -> Layer:
    """A layer of entries: a name, a kind as tar has it, and bytes or the target of a link."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind, given in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if isinstance(given, str):
                entry.linkname = given
                tar.addfile(entry)
            else:
                entry.size = len(given)
                tar.addfile(entry, io.BytesIO(given))
    return _layer(made.getvalue())


def _packed(layer: Layer, diff_id: str = "") -> Layer:
    packed = gzip.compress(content(layer.blob), mtime=0)
    return Layer(memory(packed, LAYER_GZIP), diff_id or layer.diff_id)


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_an_image_on_disk_is_what_it_claims_and_each_layer_is_read_once(
    name: str, image: Image, model: ModelSpec, tmp_path: Path
) -> None:
    layout.write(image, tmp_path / name)
    read: list[int] = []
    with open_image(str(tmp_path / name), _nothing) as found:
        verified = verify(found, model, read.append)
    assert _wrong(verified) == set()
    assert sum(read) == sum(layer.descriptor.size for layer in image.layers)
    assert {"manifest", "configuration", "layer 1", f"/model/{_WEIGHTS}", _CATALOGUE} < {
        row.what for row in verified.rows
    }


def _spoilt(image: Image) -> Layer:
    """The layer of weights with one byte of them changed."""
    [layer] = image.layers
    tar = content(layer.blob)
    assert b"weightsweights" in tar
    return _layer(tar.replace(b"weightsweights", b"weightsWeights", 1))


def test_one_byte_of_a_weight_is_told_though_all_layers_are_as_their_digests_say(
    image: Image, model: ModelSpec, tmp_path: Path
) -> None:
    layer = _spoilt(image)
    layout.write(_with(image, [layer], **{WEIGHT_LAYERS_LABEL: layer.diff_id}), tmp_path / "layout")
    with open_image(str(tmp_path / "layout"), _nothing) as found:
        assert _wrong(verify(found, model, _nothing)) == {f"/model/{_WEIGHTS}", MODEL_DIGEST_LABEL, _CATALOGUE}


def test_an_image_that_is_forged_throughout_is_told_by_our_own_catalogue(image: Image, model: ModelSpec) -> None:
    content_ = {file.path: b"forged" for file in model.files}
    forged = [replace(file, sha256=hashlib.sha256(b"forged").hexdigest()) for file in model.files]
    rows = [{"path": file.path, "sha256": file.sha256} for file in forged]
    layer = tar_layer(
        {
            **{f"model/{path}": given for path, given in content_.items()},
            "model/manifest.json": json.dumps({"model": model.id, "files": rows}).encode(),
        }
    )
    labels = {MODEL_DIGEST_LABEL: f"sha256:{digest_of_files(forged)}", WEIGHT_LAYERS_LABEL: layer.diff_id}
    made = _with(image, [layer], **labels)
    assert _checked(made) == set()
    assert _checked(made, model) == {_CATALOGUE}


@pytest.mark.parametrize("label", [MODEL_LABEL, MODEL_DIGEST_LABEL, WEIGHT_LAYERS_LABEL])
def test_a_label_that_was_changed_is_told(label: str, image: Image, model: ModelSpec) -> None:
    assert _checked(_with(image, image.layers, **{label: "sha256:other"}), model) == {label}


@pytest.mark.parametrize(
    ("above", "what", "found"),
    [
        (_tar(("model/.wh.config.json", tarfile.REGTYPE, b"")), "/model/config.json", "missing"),
        (_tar(("model/.wh.unet", tarfile.REGTYPE, b"")), f"/model/{_WEIGHTS}", "missing"),
        (_tar(("model/unet/.wh..wh..opq", tarfile.REGTYPE, b"")), f"/model/{_WEIGHTS}", "missing"),
        (_tar((".wh..wh..opq", tarfile.REGTYPE, b"")), "/model/manifest.json", "missing"),
        (_tar((".wh.model", tarfile.REGTYPE, b"")), "/model/manifest.json", "missing"),
        (_tar(("model/unet", tarfile.SYMTYPE, "/elsewhere")), f"/model/{_WEIGHTS}", "missing"),
        (_tar(("model/unet", tarfile.SYMTYPE, "/elsewhere")), "/model/unet", "symbolic link"),
        (_tar(("model", tarfile.SYMTYPE, "/elsewhere")), "/model/manifest.json", "missing"),
        (_tar((f"model/{_WEIGHTS}", tarfile.DIRTYPE, b"")), f"/model/{_WEIGHTS}", "missing"),
        (_tar((f"./model/{_WEIGHTS}", tarfile.REGTYPE, b"!")), f"/model/{_WEIGHTS}", hashlib.sha256(b"!").hexdigest()),
        (_tar((f"model/{_WEIGHTS}", tarfile.LNKTYPE, "etc/passwd")), f"/model/{_WEIGHTS}", "hard link"),
        (_tar(("model/more.bin", tarfile.REGTYPE, b"!")), "/model/more.bin", hashlib.sha256(b"!").hexdigest()),
    ],
)
def test_files_count_as_higher_layers_leave_them(
    above: Layer, what: str, found: str, image: Image, model: ModelSpec
) -> None:
    made = _with(image, [*image.layers, above])
    assert what in _checked(made, model)
    assert MODEL_DIGEST_LABEL in _checked(made)
    assert _found(made, what) == found


def test_what_a_layer_takes_away_it_takes_from_lower_layers_only(image: Image, model: ModelSpec) -> None:
    below = tar_layer({"model/old.bin": b"old", "model/unet/old.bin": b"old"})
    [layer] = image.layers
    emptied = tarfile.TarInfo("model/.wh..wh..opq").tobuf()
    above = _layer(content(layer.blob).removesuffix(tars.END) + emptied + tars.END)
    assert _checked(_with(image, [below, above], **{WEIGHT_LAYERS_LABEL: above.diff_id}), model) == set()
    assert {"/model/old.bin", "/model/unet/old.bin"} < _checked(_with(image, [below, layer]), model)


@pytest.mark.parametrize(
    "layers",
    [
        (_tar(("data", tarfile.SYMTYPE, "model"), ("data/config.json", tarfile.REGTYPE, b"!")),),
        (_tar(("data", tarfile.SYMTYPE, "/")), _tar(("data/model/config.json", tarfile.REGTYPE, b"!"))),
        (
            _tar(("a", tarfile.SYMTYPE, "b/c"), ("b/c", tarfile.SYMTYPE, "../../../model")),
            _tar(("a/.wh.config.json", tarfile.REGTYPE, b"")),
        ),
        (_tar(("a", tarfile.SYMTYPE, "a"), ("a/b", tarfile.REGTYPE, b"")),),
        (_tar(("model/x", tarfile.REGTYPE, b""), ("model/.wh.x", tarfile.REGTYPE, b"")),),
    ],
)
def test_layers_that_engines_may_unpack_otherwise_are_told(layers: Sequence[Layer], image: Image) -> None:
    assert f"layer {len(layers) + 1}, unpacked" in _checked(_with(image, [*image.layers, *layers]))


def test_links_that_lead_elsewhere_do_no_harm(image: Image, model: ModelSpec) -> None:
    usual = _tar(("bin", tarfile.SYMTYPE, "usr/bin"), ("usr/bin/X11", tarfile.SYMTYPE, "."))
    above = _tar(("bin/tool", tarfile.REGTYPE, b"!"), ("usr/bin/X11/tool", tarfile.REGTYPE, b"!"))
    assert _checked(_with(image, [usual, *image.layers, above]), model) == set()
    once = _tar(("data", tarfile.SYMTYPE, "model"))
    later = _tar(("data", tarfile.DIRTYPE, b""), ("data/config.json", tarfile.REGTYPE, b"!"))
    assert _checked(_with(image, [once, *image.layers, later]), model) == set()


def test_a_hard_link_is_the_file_that_it_leads_to(image: Image, model: ModelSpec) -> None:
    weights = next(file for file in model.files if file.path == _WEIGHTS)
    assert model.bundled
    given = (model.bundled / _WEIGHTS).read_bytes()
    same = _tar(("model/a", tarfile.REGTYPE, given), (f"model/{_WEIGHTS}", tarfile.LNKTYPE, "model/a"))
    lower = _tar((f"model/{_WEIGHTS}", tarfile.LNKTYPE, "model/config.json"))
    assert _found(_with(image, [*image.layers, same]), f"/model/{_WEIGHTS}") == weights.sha256
    assert _found(_with(image, [*image.layers, lower]), f"/model/{_WEIGHTS}") == hashlib.sha256(b"{}").hexdigest()


def test_compressed_layers_are_verified_as_both_that_they_are(image: Image, model: ModelSpec) -> None:
    assert _checked(_with(image, [_packed(layer) for layer in image.layers]), model) == set()
    wrong = _with(image, [_packed(layer, digest_of(b"other")) for layer in image.layers])
    assert _checked(wrong, model) == {"layer 1, unpacked"}


def test_an_uncompressed_layer_with_another_diff_id_is_told(image: Image, model: ModelSpec, tmp_path: Path) -> None:
    wrong = _with(image, [replace(layer, diff_id=digest_of(b"other")) for layer in image.layers])
    assert _checked(wrong, model) == {"layer 1, unpacked"}
    layout.write(wrong, tmp_path / "layout")
    with pytest.raises(ImageError, match="two digests"), open_image(str(tmp_path / "layout"), _nothing):
        pass


@pytest.mark.parametrize("packed", [False, True])
def test_a_layer_that_ends_early_is_told(packed: bool, image: Image, model: ModelSpec) -> None:
    [layer] = [_packed(layer) if packed else layer for layer in image.layers]
    short = Counted(layer.descriptor, content(layer.blob)[:-200])
    made = _with(image, [replace(layer, blob=short)])
    assert {"layer 1", "layer 1, unpacked"} <= _checked(made, model)
    assert f"{layer.descriptor.size - 200} bytes and not {layer.descriptor.size}" in _found(made, "layer 1")


def test_a_blob_on_disk_that_was_damaged_is_told(image: Image, model: ModelSpec, tmp_path: Path) -> None:
    layout.write(image, tmp_path / "layout")
    [layer] = image.layers
    blob = tmp_path / "layout" / "blobs" / "sha256" / layer.descriptor.digest.removeprefix("sha256:")
    with blob.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with open_image(str(tmp_path / "layout"), _nothing) as found:
        assert _wrong(verify(found, model, _nothing)) >= {"layer 1"}
    with blob.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ImageError, match="not all there"), open_image(str(tmp_path / "layout"), _nothing):
        pass


def test_a_blob_that_cannot_be_read_is_an_error_and_no_finding(image: Image, model: ModelSpec, tmp_path: Path) -> None:
    layout.write(image, tmp_path / "layout")
    with open_image(str(tmp_path / "layout"), _nothing) as found:
        [layer] = found.layers
        (tmp_path / "layout" / "blobs" / "sha256" / layer.diff_id.removeprefix("sha256:")).unlink()
        with pytest.raises(ImageError, match="cannot read"):
            verify(found, model, _nothing)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (_layer(b"no tar" * 1000), "not a tar archive"),
        (_tar(("model/" + "d/" * 3000 + "f", tarfile.REGTYPE, b"")), "more than 4096 characters"),
        (_tar(*((f"model/{number}", tarfile.SYMTYPE, "x") for number in range(10_001))), "more than 10000 files"),
    ],
)
def test_a_hostile_layer_is_told_and_costs_little(layer: Layer, told: str, image: Image) -> None:
    made = _with(image, [*image.layers, layer])
    assert "layer 2, unpacked" in _checked(made)
    assert told in _found(made, "layer 2, unpacked")


def test_layers_packed_with_zstd_are_read_as_well(image: Image, model: ModelSpec) -> None:
    packed = [
        Layer(memory(zstandard.compress(b"".join(layer.blob.read())), LAYER_ZSTD), layer.diff_id)
        for layer in image.layers
    ]
    assert _checked(_with(image, packed), model) == set()
    blob = memory(b"packed", LAYER_ZSTD)
    assert "layer 2, unpacked" in _checked(_with(image, [*packed, Layer(blob, digest_of(b"other"))]))


def test_an_image_without_weights_is_verified_as_one(image: Image, model: ModelSpec) -> None:
    labels = {WEIGHTS_LABEL: "mounted", MODEL_LABEL: model.id, MODEL_DIGEST_LABEL: f"sha256:{model.digest}"}
    labels[WEIGHT_LAYERS_LABEL] = ""
    slim = _labelled(labels, _tar(("model", tarfile.DIRTYPE, b"")))
    assert _checked(slim, model) == set()
    assert "mounted when it runs" in next(
        row.claimed for row in verify(slim, model, _nothing).rows if row.what == "/model"
    )
    assert _checked(_labelled(labels, *image.layers), model) == {"/model", WEIGHT_LAYERS_LABEL}
    other = replace(model, known=model.files[:1])
    assert _checked(slim, other) == {f"{MODEL_DIGEST_LABEL}, as our catalogue has it"}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"app/runtime/locks/cpu.txt": b"torch==1\n"}, ""),
        ({"app/runtime/locks/cpu.txt": b"torch==2\n"}, digest_of(b"torch==2\n")),
        ({"app/runtime/locks/cu126.txt": b"torch==1\n"}, "missing"),
    ],
)
def test_the_lock_in_the_image_is_the_one_of_the_label(files: dict[str, bytes], found: str) -> None:
    labels = {WEIGHTS_LABEL: "mounted", LOCK_LABEL: "cpu", LOCK_DIGEST_LABEL: digest_of(b"torch==1\n")}
    made = _labelled(labels, tar_layer(files))
    assert _checked(made) == ({"/app/runtime/locks/cpu.txt"} if found else set())
    assert _found(made, "/app/runtime/locks/cpu.txt") == (found or labels[LOCK_DIGEST_LABEL])


def test_an_image_that_claims_nothing_is_not_said_to_hold() -> None:
    assert _checked(image_of(tar_layer({"bin/true": b""}))) == {"labels and model"}


@pytest.mark.parametrize("listed", [b"", b"[]", b'{"files": [{}]}', b"\xff"])
def test_a_list_of_files_that_makes_no_sense_is_told(listed: bytes) -> None:
    assert "/model/manifest.json" in _checked(image_of(tar_layer({"model/manifest.json": listed})))


def test_a_malformed_configuration_is_an_error(image: Image) -> None:
    with pytest.raises(ImageError, match="malformed"):
        verify(compose({"config": ["wrong"]}, image.layers), None, _nothing)


def test_our_catalogue_may_know_of_optional_files_and_of_no_hash(image: Image, model: ModelSpec) -> None:
    config, weights = model.files
    more = replace(config, path="more.json")
    assert _checked(image, replace(model, known=(config, replace(weights, sha256=None)))) == set()
    assert _checked(image, replace(model, known=(config, weights, replace(more, optional=True)))) == set()
    assert _checked(image, replace(model, known=(config, weights, more))) == {_CATALOGUE}
    assert _checked(image, replace(model, known=(config,))) == {_CATALOGUE}


@pytest.mark.docker
def test_an_image_of_the_engine_is_found_by_its_tag(
    engine: Engine, tag: str, image: Image, model: ModelSpec, tmp_path: Path
) -> None:
    deliver(engine, image, tag, _nothing)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with open_image(tag, _nothing, scratch=scratch) as found:
        assert _wrong(verify(found, model, _nothing)) == set()
    assert list(scratch.iterdir()) == []
    layer = _spoilt(image)
    deliver(engine, _with(image, [layer]), tag, _nothing)
    with open_image(tag, _nothing) as found:
        assert f"/model/{_WEIGHTS}" in _wrong(verify(found, model, _nothing))


def test_without_an_engine_a_registry_is_asked(
    image: Image,
    model: ModelSpec,
    tmp_path: Path,
    free_port: int,
    no_logins: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with real_registry(tmp_path, free_port) as host:
        push(image, parse(f"{host}/some/weights:1"), _nothing)
        with open_image(f"{host}/some/weights:1", _nothing) as found:
            assert _wrong(verify(found, model, _nothing)) == set()
        with (
            pytest.raises(ImageError, match="no file, no Docker engine answers, and no registry gives it"),
            open_image(f"{host}/some/weights:2", _nothing),
        ):
            pass
