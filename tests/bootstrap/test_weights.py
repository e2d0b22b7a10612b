from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import state, weights
from bootstrap.recorder import Recorder
from bootstrap.weights import Brought
from mirrors.errors import FetchFailed, MirrorError
from mirrors.http import HttpSettings
from runtime.models import ModelSpec, installed, model
from tests.bootstrap import hubs
from tests.bootstrap.hubs import FILES, WEIGHTS
from tests.mirrors.loopback import Fault, LoopbackMirror

HTTP = HttpSettings(connect_timeout=2, response_timeout=5)


@pytest.fixture
def published(tmp_path: Path) -> ModelSpec:
    """A model with a repository and a manifest of its own."""
    return hubs.spec(tmp_path)


@pytest.fixture
def hub(home: Path) -> Iterator[LoopbackMirror]:
    """The one hub that can be reached: in place of the public one."""
    with LoopbackMirror() as server:
        hubs.publish(server)
        hubs.use(state.home(), server)
        yield server


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        hubs.serve(server)
        yield server


def bring(spec: ModelSpec, *, offline: bool = False, recorder: Recorder | None = None) -> Brought:
    return weights.bring(state.home(), spec, HTTP, on_bytes=lambda _: None, offline=offline, recorder=recorder)


def content(spec: ModelSpec) -> dict[str, bytes]:
    directory = weights.directory(state.home(), spec)
    return {path: (directory / path).read_bytes() for path in FILES}


def test_a_published_model_comes_from_a_hub_and_lies_under_its_own_names(
    published: ModelSpec, hub: LoopbackMirror
) -> None:
    assert not weights.present(state.home(), published)
    assert bring(published).sources == (hub.base.removeprefix("http://"),)
    assert weights.present(state.home(), published)
    assert content(published) == FILES


def test_what_is_in_the_store_is_not_fetched_again(published: ModelSpec, hub: LoopbackMirror) -> None:
    bring(published)
    (weights.directory(state.home(), published) / "model_index.json").unlink()
    assert not weights.present(state.home(), published)
    asked = len(hub.requested("*"))
    assert bring(published).sources == ("store",)
    assert len(hub.requested("*")) == asked
    assert weights.present(state.home(), published)


def test_a_file_that_was_damaged_in_the_store_is_fetched_again(published: ModelSpec, hub: LoopbackMirror) -> None:
    bring(published)
    directory = weights.directory(state.home(), published)
    (directory / WEIGHTS).chmod(0o644)
    (directory / WEIGHTS).write_bytes(b"damaged" * 10_000)
    shutil.rmtree(directory)
    bring(published)
    assert content(published) == FILES


def test_tampered_weights_are_never_in_the_models_directory(published: ModelSpec, hub: LoopbackMirror) -> None:
    hub.misbehave("*.safetensors", Fault(tamper=True))
    with pytest.raises(FetchFailed, match="other bytes"):
        bring(published)
    here = state.home()
    assert not weights.directory(here, published).exists()
    assert not weights.present(here, published)
    assert [path for path in here.models.rglob("*") if path.is_file()] == []


def test_a_mirror_with_other_bytes_is_dropped_and_the_rest_comes_from_the_others(
    tmp_path: Path, hub: LoopbackMirror, mirror: LoopbackMirror
) -> None:
    files = {name: bytes([place]) * 600_000 for place, name in enumerate(("a.safetensors", "b.safetensors", "c.json"))}
    spec = hubs.spec(tmp_path, files)
    for server in (hub, mirror):
        hubs.serve(server, files)
    hubs.use(state.home(), hub, mirror)
    mirror.misbehave("*", Fault(tamper=True))
    brought = bring(spec)
    assert hub.base.removeprefix("http://") in brought.sources
    directory = weights.directory(state.home(), spec)
    assert {path: (directory / path).read_bytes() for path in files} == files


def test_several_hubs_give_parts_of_a_model(tmp_path: Path, hub: LoopbackMirror, mirror: LoopbackMirror) -> None:
    files = {WEIGHTS: bytes(range(256)) * 40_000}
    spec = hubs.spec(tmp_path, files)
    for server in (hub, mirror):
        hubs.serve(server, files)
        server.misbehave("*", Fault(rate=1e6))
    hubs.use(state.home(), hub, mirror)
    assert len(bring(spec).per_source) == 2


def test_modelscope_is_asked_under_its_own_name_for_a_repository(
    tmp_path: Path, hub: LoopbackMirror, mirror: LoopbackMirror
) -> None:
    rows = [{"path": path, "size": len(data), "sha256": hubs.sha256(data)} for path, data in FILES.items()]
    spec = hubs.listed(tmp_path, rows, {"modelscope": "Elsewhere/model"})
    here = state.home()
    row = f"  - {{id: modelscope, kind: hub, url: '{mirror.base}', layout: modelscope}}\n"
    here.user_mirrors.write_text(here.user_mirrors.read_text() + row)
    bring(spec)
    assert mirror.requested("/api/v1/models/Elsewhere/model/repo")
    assert content(spec) == FILES


def test_a_model_of_two_repositories_is_one_directory(tmp_path: Path, hub: LoopbackMirror) -> None:
    hubs.publish(hub, {"adapter.safetensors": b"motion" * 1000}, repo="other/adapter", revision="c2")
    rows = [{"path": path, "size": len(data), "sha256": hubs.sha256(data)} for path, data in FILES.items()]
    adapter = {"path": "motion/a.safetensors", "sha256": hubs.sha256(b"motion" * 1000), "size": 6000}
    origin = {"repo": "other/adapter", "revision": "c2", "from": "adapter.safetensors"}
    spec = hubs.listed(tmp_path, [*rows, {**adapter, **origin}])
    bring(spec)
    assert (weights.directory(state.home(), spec) / "motion/a.safetensors").read_bytes() == b"motion" * 1000
    assert content(spec) == FILES


def test_the_directory_says_what_it_holds(published: ModelSpec, hub: LoopbackMirror) -> None:
    brought = bring(published)
    assert brought.model.files == published.files
    bring(model("demo"))
    assert installed("demo", weights.directory(state.home(), model("demo"))).digest == model("demo").digest


def test_a_place_that_cannot_be_written_is_named(published: ModelSpec, hub: LoopbackMirror) -> None:
    here = state.home()
    here.cache.mkdir(parents=True)
    here.models.write_text("in the way")
    with pytest.raises(MirrorError, match=str(here.models)):
        bring(published)


def test_offline_nobody_is_asked(published: ModelSpec, hub: LoopbackMirror) -> None:
    with pytest.raises(MirrorError, match="2 of 2 files of published are not in the store") as raised:
        bring(published, offline=True)
    assert "--offline" in raised.value.hint
    assert hub.requested("*") == []
    bring(published)
    shutil.rmtree(weights.directory(state.home(), published))
    asked = len(hub.requested("*"))
    assert bring(published, offline=True).sources == ("store",)
    assert len(hub.requested("*")) == asked


def test_what_is_missing_is_told_with_its_size(published: ModelSpec, hub: LoopbackMirror) -> None:
    here = state.home()
    assert [(file.path, file.about) for file in weights.missing(here, published)] == [
        (path, len(data)) for path, data in FILES.items()
    ]
    bring(published)
    assert weights.missing(here, published) == ()


def test_licence_size_and_note_are_told_before_the_download(home: Path) -> None:
    told = weights.told(state.home(), model("svd"))
    assert "files, 4.5 GB" in told
    assert "licence: stable-video-diffusion-community" in told
    assert "may need an account (not known)" in told
    assert "8 sha256 to be learnt first" in told
    assert told.endswith(model("svd").note)
    assert "about 5.0 GB" in weights.told(state.home(), model("i2vgen-xl"))


def test_the_report_gets_the_parts_of_the_fetch(published: ModelSpec, hub: LoopbackMirror) -> None:
    recorder = Recorder("install")
    bring(published, recorder=recorder)
    phases = {timing.phase: timing for timing in recorder.section().timings}
    assert {"weights.choose", "weights.download", "weights.verify"} <= phases.keys()
    assert set(phases["weights.download"].sources) == {hub.base.removeprefix("http://")}


def test_the_bundled_model_needs_no_network(home: Path) -> None:
    assert bring(model("demo")).sources == ("bundled",)
    assert weights.present(state.home(), model("demo"))
    assert bring(model("demo"), offline=True).sources == ("bundled",)
