import gzip
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from images import load_archive
from images.deliver import Delivered, deliver
from images.engine import Engine
from images.errors import ImageError
from images.loopback_registry import PREFIX
from images.oci import LAYER_GZIP, Bytes, Descriptor, Image, Layer, digest_of
from tests.images.layers import Broken, Stuck, content, image, layer, with_blob

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
_OWN_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.fixture
def other_tag(engine: Engine) -> Iterator[str]:
    """A second name for an image."""
    name = f"i2v-test-other:{uuid.uuid4().hex[:12]}"
    yield name
    if _has(engine, name):
        engine.client.images.remove(name, force=True)


@pytest.fixture(autouse=True)
def no_passing_name_is_left(engine: Engine) -> Iterator[None]:
    yield
    assert [name for found in engine.client.images.list() for name in found.tags if PREFIX in name] == []


def _command(tmp_path: Path, of: Image, tag: str, *options: str) -> list[str]:
    path = tmp_path / f"{uuid.uuid4().hex}.image"
    path.write_bytes(pickle.dumps(of))
    return [sys.executable, "-m", "tests.images.delivering", str(path), tag, *options]


def _own_network() -> tuple[str, ...]:
    """Begins a command that the engine cannot reach, though it reaches the engine's socket."""
    tried = shutil.which("unshare") and subprocess.run([*_OWN_NETWORK, "true"], capture_output=True, check=False)
    if (not tried or tried.returncode) and os.environ.get("CI") != "true":
        pytest.skip("needs unshare, ip, and the right to make a network namespace")
    return _OWN_NETWORK


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _deliver_from_elsewhere(tmp_path: Path, of: Image, tag: str, *options: str) -> Delivered:
    done = _run([*_own_network(), *_command(tmp_path, of, tag, *options)])
    assert done.returncode == 0, done.stderr
    return Delivered(**json.loads(done.stdout))


def _has(engine: Engine, tag: str) -> bool:
    return any(tag in found.tags for found in engine.client.images.list())


def _diff_ids(engine: Engine, tag: str) -> list[str]:
    return list(engine.client.images.get(tag).attrs["RootFS"]["Layers"])


def _saved(engine: Engine, tag: str) -> set[str]:
    """The names of all files in what `docker save` gives."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.client.images.get(tag).save()))) as tar:
        return set(tar.getnames())


def _sizes(of: Image) -> dict[str, int]:
    return {blob.descriptor.digest: blob.descriptor.size for blob in (of.manifest, *of.blobs)}


def test_an_image_is_pulled_from_us_whole(engine: Engine, tag: str) -> None:
    wanted = image([layer("a", 3 << 20), layer("b")])
    told: list[int] = []
    delivered = deliver(engine, wanted, tag, told.append)
    assert delivered.how == "pull"
    assert delivered.sent == _sizes(wanted)
    assert sum(told) == sum(delivered.sent.values())
    assert engine.image(tag).id == delivered.image_id
    assert _diff_ids(engine, tag) == [one.diff_id for one in wanted.layers]


def test_only_what_is_new_is_sent(engine: Engine, tag: str) -> None:
    below, above = layer("weights", 100_000), layer("app")
    deliver(engine, image([below, layer("app")]), tag, lambda size: None)
    changed = image([below, above])
    sent = deliver(engine, changed, tag, lambda size: None).sent
    assert below.descriptor.digest not in sent
    assert sent[above.descriptor.digest] == above.descriptor.size
    assert _diff_ids(engine, tag) == [below.diff_id, above.diff_id]
    again = deliver(engine, changed, tag, lambda size: None).sent
    assert not {below.descriptor.digest, above.descriptor.digest} & set(again)


def test_layers_that_came_by_another_way_are_not_sent(engine: Engine, tag: str, other_tag: str) -> None:
    below, above = layer("weights", 100_000), layer("app")
    packed = load_archive.stream(image([below]), f"docker.io/library/{tag}", (), lambda digest, size: None)
    engine.client.images.load(b"".join(packed))
    sent = deliver(engine, image([below, above]), other_tag, lambda size: None).sent
    assert below.descriptor.digest not in sent
    assert _diff_ids(engine, other_tag) == [below.diff_id, above.diff_id]


def test_an_engine_that_cannot_reach_us_is_given_an_archive(engine: Engine, tag: str, tmp_path: Path) -> None:
    below, above = layer("weights", 3 << 20), layer("app")
    first = image([below, layer("app")])
    delivered = _deliver_from_elsewhere(tmp_path, first, tag)
    assert delivered.how == "load"
    assert delivered.sent == _sizes(first)
    changed = image([below, above])
    delivered = _deliver_from_elsewhere(tmp_path, changed, tag)
    assert below.descriptor.digest not in delivered.sent
    assert delivered.sent[above.descriptor.digest] == above.descriptor.size
    assert engine.image(tag).id == delivered.image_id
    assert f"blobs/{below.descriptor.digest.replace(':', '/')}" in _saved(engine, tag)


def test_a_layer_that_is_there_in_another_compression_is_not_missed(
    engine: Engine, tag: str, other_tag: str, tmp_path: Path
) -> None:
    plain, above = layer("weights", 100_000), layer("app")
    packed = gzip.compress(content(plain))
    as_gzip = Layer(Bytes(Descriptor(LAYER_GZIP, digest_of(packed), len(packed)), packed), plain.diff_id)
    deliver(engine, image([as_gzip]), tag, lambda size: None)
    _deliver_from_elsewhere(tmp_path, image([plain, above]), other_tag)
    assert f"blobs/{plain.descriptor.digest.replace(':', '/')}" in _saved(engine, other_tag)


def test_an_engine_that_lacks_a_layer_after_all_is_given_everything(engine: Engine, tag: str, tmp_path: Path) -> None:
    wanted = image([layer("a", 100_000), layer("b")])
    sent = _deliver_from_elsewhere(tmp_path, wanted, tag, "mistaken").sent
    assert {one.descriptor.digest for one in wanted.layers} <= set(sent)
    assert _diff_ids(engine, tag) == [one.diff_id for one in wanted.layers]


def test_bytes_that_are_not_the_layer_get_no_tag(engine: Engine, tag: str) -> None:
    whole = layer("a", 10_000)
    other = content(whole)[:-1] + b"x"
    with pytest.raises(ImageError, match="does not take the image") as caught:
        deliver(engine, image([with_blob(whole, Bytes(whole.descriptor, other))]), tag, lambda size: None)
    assert caught.value.hint
    assert not _has(engine, tag)


def test_a_layer_that_cannot_be_read_is_said(engine: Engine, tag: str) -> None:
    whole = layer("a", 100_000)
    blob = Broken(whole.descriptor, content(whole)[:1000], OSError(5, "Input/output error"))
    with pytest.raises(ImageError, match=r"cannot read the layer sha256:.*Input/output error"):
        deliver(engine, image([with_blob(whole, blob)]), tag, lambda size: None)
    assert not _has(engine, tag)


@pytest.mark.parametrize("reachable", [True, False], ids=["pull", "load"])
def test_a_layer_that_is_not_what_the_configuration_says_gets_no_tag(
    engine: Engine, tag: str, tmp_path: Path, reachable: bool
) -> None:
    command = _command(tmp_path, image([Layer(layer("a").blob, layer("b").diff_id)]), tag)
    done = _run(command if reachable else [*_own_network(), *command])
    assert done.returncode == 1
    assert "the engine does not take the image" in done.stderr
    assert not _has(engine, tag)


def test_a_name_that_is_none_is_said_before_anything_is_sent(engine: Engine) -> None:
    told: list[int] = []
    with pytest.raises(ImageError, match="use the name A:b"):
        deliver(engine, image([layer("a")]), "A:b", told.append)
    assert told == []


@pytest.mark.parametrize("reachable", [True, False], ids=["pull", "load"])
def test_a_killed_delivery_tags_nothing_and_the_next_completes_it(
    engine: Engine, tag: str, tmp_path: Path, reachable: bool
) -> None:
    small, large = layer("a"), layer("b", 1 << 20)
    stuck = Stuck(large.descriptor, content(large)[:70_000], tmp_path / "reached")
    command = _command(tmp_path, image([small, with_blob(large, stuck)]), tag)
    # `unshare` and `sh` become the Python process, so the signal ends just that.
    with subprocess.Popen([*(() if reachable else _own_network()), *command], cwd=ROOT) as process:
        while not stuck.reached.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not _has(engine, tag)
    wanted = image([small, large])
    delivered = deliver(engine, wanted, tag, lambda size: None)
    assert large.descriptor.digest in delivered.sent
    assert _diff_ids(engine, tag) == [small.diff_id, large.diff_id]
