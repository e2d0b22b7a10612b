import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from images import layout, tars
from images.engine import Engine
from images.errors import ImageError
from images.layers import weight_layers, weights_image
from images.oci import INDEX, LAYER, LAYER_GZIP, Bytes, Descriptor, Image, Layer, bytes_of, compose, digest_of
from runtime.models import ModelSpec
from tests.loop_disk import loop_disk

docker = pytest.mark.docker


@pytest.fixture
def image(small_model: ModelSpec, tmp_path: Path) -> Image:
    assert small_model.bundled
    return weights_image(small_model, weight_layers(small_model, small_model.bundled, tmp_path / "known.json"))


def _layer(content: bytes, media_type: str = LAYER, path: str = "file") -> Layer:
    tar = tars.file(path, len(content)) + content + tars.padding(len(content)) + tars.END
    blob = gzip.compress(tar, mtime=0) if media_type == LAYER_GZIP else tar
    return Layer(Bytes(Descriptor(media_type, digest_of(blob), len(blob)), blob), digest_of(tar), "a step")


def _image(*contents: bytes, architecture: str = "amd64") -> Image:
    return compose({"architecture": architecture, "os": "linux"}, [_layer(content) for content in contents])


def _content(image: Image) -> list[bytes]:
    return [b"".join(blob.read()) for blob in (image.manifest, *image.blobs)]


def _same(one: Image, other: Image) -> bool:
    same_layers = [(layer.descriptor, layer.diff_id, layer.made_by) for layer in one.layers] == [
        (layer.descriptor, layer.diff_id, layer.made_by) for layer in other.layers
    ]
    return same_layers and (one.manifest, one.config, _content(one)) == (other.manifest, other.config, _content(other))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(70_001):
            yield piece


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_what_is_written_is_read(image: Image, tmp_path: Path, name: str) -> None:
    told: list[int] = []
    layout.write(image, tmp_path / name, "i2v:1", told.append)
    assert _same(layout.read(tmp_path / name), image)
    assert sum(told) == sum(blob.descriptor.size for blob in (image.manifest, *image.blobs))


def test_what_comes_in_as_a_stream_is_kept_and_read(image: Image, tmp_path: Path) -> None:
    layout.write(image, tmp_path / "layout.tar", "i2v:1")
    for _ in range(2):
        assert _same(layout.read_stream(_pieces(tmp_path / "layout.tar"), tmp_path / "blobs"), image)
    kept = {f"sha256:{path.name}" for path in (tmp_path / "blobs").iterdir()}
    assert kept == {blob.descriptor.digest for blob in (image.manifest, *image.blobs)}


def test_compressed_layers_stay_as_they_are(tmp_path: Path) -> None:
    image = compose({"architecture": "amd64", "os": "linux"}, [_layer(b"content", LAYER_GZIP)])
    layout.write(image, tmp_path / "layout.tar")
    for read in (
        layout.read(tmp_path / "layout.tar"),
        layout.read_stream(_pieces(tmp_path / "layout.tar"), tmp_path / "blobs"),
    ):
        assert _same(read, image)
        assert read.layers[0].diff_id != read.layers[0].descriptor.digest


def test_an_archive_is_always_the_same_bytes(image: Image, tmp_path: Path) -> None:
    for name in ("one.tar", "other.tar"):
        layout.write(image, tmp_path / name, "i2v:1")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert {(member.mtime, member.uid, member.mode) for member in archive} == {(0, 0, 0o644), (0, 0, 0o755)}


def test_an_index_names_the_image_as_engines_expect(image: Image, tmp_path: Path) -> None:
    layout.write(image, tmp_path / "layout", "i2v")
    (row,) = _index(tmp_path / "layout")
    assert row["annotations"] == {
        "io.containerd.image.name": "docker.io/library/i2v:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    assert row["digest"] == image.manifest.descriptor.digest
    assert json.loads((tmp_path / "layout" / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_several_images_share_a_directory(tmp_path: Path) -> None:
    one, other = _image(b"common", b"one"), _image(b"common", b"other")
    layout.write(one, tmp_path, "i2v:one")
    shared = tmp_path / "blobs" / "sha256" / one.layers[0].diff_id.removeprefix("sha256:")
    before = shared.stat()
    layout.write(other, tmp_path, "i2v:other")
    assert (shared.stat().st_ino, shared.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert _same(layout.read(tmp_path, "i2v:one"), one)
    assert _same(layout.read(tmp_path, "docker.io/library/i2v:other"), other)
    with pytest.raises(ImageError, match="several images"):
        layout.read(tmp_path)
    with pytest.raises(ImageError, match="no image i2v:none") as caught:
        layout.read(tmp_path, "i2v:none")
    assert "docker.io/library/i2v:one" in caught.value.hint


def test_a_name_goes_from_one_image_to_the_next(tmp_path: Path) -> None:
    for content in (b"one", b"other", b"other"):
        layout.write(_image(content), tmp_path, "i2v:1")
        layout.write(_image(content), tmp_path)
    assert _same(layout.read(tmp_path, "i2v:1"), _image(b"other"))
    assert len(_index(tmp_path)) == 3


def test_entries_of_others_stay(image: Image, tmp_path: Path) -> None:
    others = {"mediaType": "application/x-other", "digest": f"sha256:{'ab' * 32}", "size": 1, "platform": {"os": "x"}}
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [others]}))
    layout.write(image, tmp_path, "i2v:1")
    assert _index(tmp_path)[0] == others
    assert _same(layout.read(tmp_path, "i2v:1"), image)


def test_a_damaged_index_is_left_alone(image: Image, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(ImageError, match=r"index\.json is malformed"):
        layout.write(image, tmp_path)
    assert (tmp_path / "index.json").read_text() == "{"


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_a_blob_that_is_not_what_it_should_be_is_not_kept(tmp_path: Path, name: str) -> None:
    image = _image(b"content")
    layer = image.layers[0]
    wrong = replace(layer, blob=Bytes(layer.descriptor, bytes(layer.descriptor.size)))
    with pytest.raises(ImageError, match="damaged"):
        layout.write(replace(image, layers=(wrong,)), tmp_path / name)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(
        [blob.descriptor.digest.removeprefix("sha256:") for blob in (image.manifest, image.config)]
        if name == "layout"
        else []
    )


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_a_full_disk_is_said_and_nothing_unfinished_left(tmp_path: Path, name: str) -> None:
    image = _image(os.urandom(20_000_000))
    with loop_disk(tmp_path / "disk", tmp_path / "mount", 10) as mount:
        with pytest.raises(ImageError, match=r"the disk that holds .* is full") as caught:
            layout.write(image, mount / name)
        assert "make room" in caught.value.hint
        assert not [path for path in mount.rglob("*") if "unfinished" in path.name]


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_a_kill_leaves_nothing_named_that_is_not_whole(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    code = f"""if True:
        import time
        from pathlib import Path
        from images import layout
        from tests.images.test_layout import _image
        def slowly(count):
            print(count, flush=True)
            time.sleep(0.05 if count > 100_000 else 0)
        layout.write(_image(bytes(3_000_000), bytes(3_000_001)), Path({str(target)!r}), "i2v:1", slowly)
    """
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) > 1_000_000:
                break
        process.send_signal(signal.SIGKILL)
    unfinished = [path for path in tmp_path.rglob("*") if path.is_file() and "unfinished" in path.name]
    assert len(unfinished) == 1
    if name == "layout":
        named = [path for path in (target / "blobs" / "sha256").iterdir() if path not in unfinished]
        assert all(digest_of(path.read_bytes()) == f"sha256:{path.name}" for path in named)
        assert not (target / "index.json").exists()
    else:
        assert not target.exists()
    image = _image(bytes(3_000_000), bytes(3_000_001))
    layout.write(image, target, "i2v:1")
    assert _same(layout.read(target), image)
    assert not unfinished[0].exists()


def test_an_archive_is_not_written_twice_at_once(image: Image, tmp_path: Path) -> None:
    def again(count: int) -> None:
        with pytest.raises(ImageError, match="another run writes"):
            layout.write(image, tmp_path / "layout.tar")

    layout.write(image, tmp_path / "layout.tar", on_bytes=again)
    assert _same(layout.read(tmp_path / "layout.tar"), image)


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from images import layout
        from tests.images.test_layout import _image
        for number in range(20):
            image = _image(b"common", f"{sys.argv[1]} {number}".encode())
            layout.write(image, Path(sys.argv[2]), f"i2v:{sys.argv[1]}-{number}")
    """
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, name, str(tmp_path)], cwd=root) for name in ("one", "other")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(_index(tmp_path)) == 40
    assert _same(layout.read(tmp_path, "i2v:other-7"), _image(b"common", b"other 7"))


def test_the_image_for_the_processor_is_found(tmp_path: Path) -> None:
    intel, arm = _image(b"intel"), _image(b"arm", architecture="arm64")
    for image in (intel, arm):
        layout.write(image, tmp_path)
    rows = [
        {**image.manifest.descriptor.document(), "platform": {"os": "linux", "architecture": name}}
        for name, image in (("amd64", intel), ("arm64", arm), ("s390x", _image(b"not there")))
    ]
    attestation = {
        **arm.config.descriptor.document(),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    inner = bytes_of(INDEX, {"schemaVersion": 2, "manifests": [*rows, attestation]})
    _blob(tmp_path, inner.content)
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [inner.descriptor.document()]}))
    assert _same(layout.read(tmp_path), intel)
    assert _same(layout.read(tmp_path, architecture="arm64"), arm)
    with pytest.raises(ImageError, match=r"not for linux/s390x, but for linux/amd64, linux/arm64$"):
        layout.read(tmp_path, architecture="s390x")


def _old_docker(path: Path, image: Image, tags: Sequence[str] = ("i2v:1",)) -> None:
    """As engines before 25 write it: a layer that occurs twice is a link."""
    rows, seen = list[str](), dict[str, str]()
    with tarfile.open(path, "w") as archive:

        def add(name: str, content: bytes = b"", link: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.size, member.linkname, member.type = len(content), link, tarfile.SYMTYPE if link else tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(content))

        for number, layer in enumerate(image.layers):
            name = f"{number:064x}/layer.tar"
            add(f"{number:064x}/json", b"{}")
            earlier = seen.setdefault(layer.diff_id, name)
            add(
                name,
                b"" if earlier != name else b"".join(layer.blob.read()),
                "" if earlier == name else f"../{earlier}",
            )
            rows.append(name)
        config = f"{image.config.descriptor.digest.removeprefix('sha256:')}.json"
        add(config, image.config.content)
        add("manifest.json", json.dumps([{"Config": config, "RepoTags": tags, "Layers": rows}]).encode())


def test_what_old_engines_saved_is_read(tmp_path: Path) -> None:
    image = _image(b"one", b"", b"two", b"")
    _old_docker(tmp_path / "old.tar", image)
    assert _same(layout.read(tmp_path / "old.tar", "i2v:1"), image)
    assert _same(layout.read_stream(_pieces(tmp_path / "old.tar"), tmp_path / "blobs"), image)
    with pytest.raises(ImageError, match="no image i2v:2"):
        layout.read(tmp_path / "old.tar", "i2v:2")


@pytest.mark.parametrize("field", ["Config", "Layers"])
@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "link", "nowhere"])
def test_no_name_in_an_archive_leads_out_of_it(tmp_path: Path, field: str, path: str) -> None:
    image = _image(b"one")
    _old_docker(tmp_path / "old.tar", image)
    with tarfile.open(tmp_path / "old.tar") as archive:
        saved = archive.extractfile("manifest.json")
        assert saved
        row = json.load(saved)[0]
    row[field] = path if field == "Config" else [path]
    listed = json.dumps([row]).encode()
    config = image.config.content
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    entries = ((f"{image.config.descriptor.digest.removeprefix('sha256:')}.json", config), ("manifest.json", listed))
    (tmp_path / "hostile.tar").write_bytes(_tar(entries, link.tobuf()))
    _refused(tmp_path, "is missing")


def test_no_name_in_a_directory_leads_out_of_it(image: Image, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps([{"Config": "../secret", "Layers": []}]))
    with pytest.raises(ImageError, match="holds no image"):
        layout.read(tmp_path)
    (tmp_path / "secret").write_bytes(image.config.content)
    layout.write(image, tmp_path / "layout")
    config = tmp_path / "layout" / "blobs" / "sha256" / image.config.descriptor.digest.removeprefix("sha256:")
    config.unlink()
    config.symlink_to(tmp_path / "secret")
    with pytest.raises(ImageError, match="is missing"):
        layout.read(tmp_path / "layout")


def _manifest(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(changes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_manifest(layers=[]), "0 layers and 1 digests"),
        (_manifest(layers=[{"digest": "sha256:../../etc/passwd", "size": 1}]), "digest is not sha256"),
        (_manifest(layers=[{"digest": f"sha256:{'ab' * 32}", "size": 1}]), "is missing"),
        (_manifest(layers=[{"digest": f"sha256:{'ab' * 32}", "size": -1}]), "size is no number"),
        (_manifest(layers=None), "malformed"),
        (_manifest(config="text"), "malformed"),
        (_manifest(mediaType="application/x-other"), "malformed"),
        (lambda document: document["layers"][0].update(size=1), "not all there"),
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str) -> None:
    image = _image(b"one")
    document = json.loads(image.manifest.content)
    change(document)
    manifest = bytes_of("", document)
    row = {"digest": manifest.descriptor.digest, "size": manifest.descriptor.size}
    contents = [manifest.content, image.config.content, *(b"".join(layer.blob.read()) for layer in image.layers)]
    blobs = [(f"blobs/sha256/{digest_of(content).removeprefix('sha256:')}", content) for content in contents]
    listed = ("index.json", json.dumps({"manifests": [row]}).encode())
    (tmp_path / "hostile.tar").write_bytes(_tar([*blobs, listed]))
    _refused(tmp_path, why)


def test_a_document_that_is_not_what_it_should_be_is_refused(tmp_path: Path) -> None:
    image = _image(b"one")
    layout.write(image, tmp_path / "layout")
    config = tmp_path / "layout" / "blobs" / "sha256" / image.config.descriptor.digest.removeprefix("sha256:")
    config.write_bytes(config.read_bytes().replace(b"amd64", b"arm64"))
    with pytest.raises(ImageError, match="damaged"):
        layout.read(tmp_path / "layout")


def test_a_streamed_blob_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    archive = _tar([(f"blobs/sha256/{'ab' * 32}", b"something")])
    with pytest.raises(ImageError, match="damaged"):
        layout.read_stream([archive], tmp_path / "blobs")
    assert not list((tmp_path / "blobs").iterdir())


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[]", b"\xff", b'{"manifests": 1}', b'{"manifests": [[]]}', b"{}"]
)
def test_a_hostile_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hostile.tar").write_bytes(_tar([("index.json", content)]))
    _refused(tmp_path, "malformed")


def test_a_huge_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hostile.tar").write_bytes(_tar([("index.json", b" " * (4 << 20) + b"{}")]))
    _refused(tmp_path, "larger than 4 MiB|too large")


def test_many_large_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "hostile.tar").write_bytes(_tar([(f"{number}.json", bytes(4 << 20)) for number in range(5)]))
    with pytest.raises(ImageError, match="too large"):
        layout.read_stream(_pieces(tmp_path / "hostile.tar"), tmp_path / "blobs")


def test_a_broken_off_stream_is_refused_and_its_whole_blobs_kept(tmp_path: Path) -> None:
    image = _image(b"one", os.urandom(1_000_000))
    layout.write(image, tmp_path / "layout.tar")
    whole = (tmp_path / "layout.tar").read_bytes()
    with pytest.raises(ImageError, match=r"damaged|ends early"):
        layout.read_stream([whole[:-500_000]], tmp_path / "blobs")
    assert len(list((tmp_path / "blobs").iterdir())) == 3
    assert _same(layout.read_stream([whole], tmp_path / "blobs"), image)


@pytest.mark.parametrize("path", ["nowhere", "nowhere.tar"])
def test_what_is_not_there_is_said(tmp_path: Path, path: str) -> None:
    with pytest.raises(ImageError, match=r"nowhere.*No such file"):
        layout.read(tmp_path / path)


def test_a_name_that_is_none_is_refused(image: Image, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not an image's name"):
        layout.write(image, tmp_path / "layout", "Not A Name")
    assert not list(tmp_path.glob("layout*"))


@docker
def test_an_engine_loads_an_archive_of_ours(engine: Engine, image: Image, tag: str, tmp_path: Path) -> None:
    layout.write(_unlike_any_before(image, image.layers, tag), tmp_path / "layout.tar", tag)
    with (tmp_path / "layout.tar").open("rb") as archive:
        engine.client.images.load(archive)
    assert engine.image(tag).labels["i2v-setup.model"] == "small"
    container = engine.client.containers.create(tag, command="none")
    try:
        exported = b"".join(cast("Iterator[bytes]", container.export()))
    finally:
        container.remove()
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        member = archive.getmember("model/unet/weights.safetensors")
        assert (member.mode, member.uid, member.mtime) == (0o644, 0, 0)
        assert archive.getmember("model/unet").mode == 0o755
        content = archive.extractfile(member)
        assert content
        assert content.read() == b"weights" * 100


@docker
def test_weights_go_below_an_image_that_an_engine_saved(
    engine: Engine, base_image: str, image: Image, tag: str, tmp_path: Path
) -> None:
    saved = engine.client.api.get_image(base_image)
    base = layout.read_stream(saved, tmp_path / "blobs", base_image, name=base_image)
    stages = json.loads(base.config.content)["rootfs"]["diff_ids"]
    assert [layer.diff_id for layer in base.layers] == stages
    both = _unlike_any_before(base, [*image.layers, *base.layers], tag)
    layout.write(both, tmp_path / "both.tar", tag)
    with (tmp_path / "both.tar").open("rb") as archive:
        engine.client.images.load(archive)
    command = ["python3", "-c", "print(open('/model/unet/weights.safetensors').read())"]
    said = engine.client.containers.run(tag, command, remove=True, user="10001")
    assert said == b"weights" * 100 + b"\n"
    loaded = layout.read_stream(engine.client.api.get_image(tag), tmp_path / "blobs", tag)
    assert [layer.diff_id for layer in loaded.layers] == [layer.diff_id for layer in both.layers]


def _unlike_any_before(image: Image, layers: Sequence[Layer], tag: str) -> Image:
    """With that name in its labels, so that it can be removed afterwards: nobody else has this very image."""
    config = json.loads(image.config.content)
    settings = config.get("config") or {}
    labels = {**(settings.get("Labels") or {}), "i2v-setup.test": tag}
    return compose({**config, "config": {**settings, "Labels": labels}}, layers)


def _refused(directory: Path, why: str) -> None:
    """Both ways of reading refuse `hostile.tar` there."""
    with pytest.raises(ImageError, match=why):
        layout.read(directory / "hostile.tar")
    with pytest.raises(ImageError, match=why):
        layout.read_stream(_pieces(directory / "hostile.tar"), directory / "blobs")


def _tar(entries: Sequence[tuple[str, bytes]], before: bytes = b"") -> bytes:
    files = (tars.file(path, len(content)) + content + tars.padding(len(content)) for path, content in entries)
    return before + b"".join(files) + tars.END


def _blob(directory: Path, content: bytes) -> None:
    (directory / "blobs" / "sha256" / digest_of(content).removeprefix("sha256:")).write_bytes(content)


def _index(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / "index.json").read_text())["manifests"]
    return found
