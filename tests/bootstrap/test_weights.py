from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import state, weights
from mirrors.errors import FetchFailed
from mirrors.http import HttpSettings
from runtime.models import ModelSpec, model
from tests.mirrors.loopback import Fault, LoopbackMirror

FILES = {"model_index.json": b"{}", "unet/diffusion_pytorch_model.fp16.safetensors": b"weights" * 10_000}
HTTP = HttpSettings(connect_timeout=2, response_timeout=5)


@pytest.fixture
def published(tmp_path: Path) -> ModelSpec:
    """A model with a repository and a manifest of its own."""
    rows = [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in FILES.items()
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"files": rows}), encoding="utf-8")
    return replace(model("demo"), id="published", repo="org/model", revision="r1", manifest=str(manifest))


@pytest.fixture
def hub(home: Path) -> Iterator[LoopbackMirror]:
    """The one hub that can be reached: the user's own, in place of the public one."""
    with LoopbackMirror() as mirror:
        for path, data in FILES.items():
            mirror.add(f"org/model/resolve/r1/{path}", data, project=None)
        here = state.home()
        here.user_mirrors.parent.mkdir(parents=True)
        row = f"  - {{id: upstream, kind: hub, url: '{mirror.base}/files', layout: huggingface}}\n"
        here.user_mirrors.write_text(f"mirrors:\n{row}", encoding="utf-8")
        yield mirror


def bring(spec: ModelSpec) -> tuple[str, ...]:
    return weights.bring(state.home(), spec, HTTP, on_bytes=lambda _: None)


def test_a_published_model_comes_from_a_hub_and_lies_under_its_own_names(
    published: ModelSpec, hub: LoopbackMirror
) -> None:
    assert not weights.present(state.home(), published)
    assert bring(published) == (hub.base.removeprefix("http://"),)
    assert weights.present(state.home(), published)
    directory = weights.directory(state.home(), published)
    assert {path: (directory / path).read_bytes() for path in FILES} == FILES


def test_what_is_in_the_store_is_not_fetched_again(published: ModelSpec, hub: LoopbackMirror) -> None:
    bring(published)
    (weights.directory(state.home(), published) / "model_index.json").unlink()
    assert not weights.present(state.home(), published)
    asked = len(hub.requested("*"))
    assert bring(published) == ("store",)
    assert len(hub.requested("*")) == asked
    assert weights.present(state.home(), published)


def test_a_file_that_was_damaged_in_the_store_is_fetched_again(published: ModelSpec, hub: LoopbackMirror) -> None:
    bring(published)
    directory = weights.directory(state.home(), published)
    weights_file = directory / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    weights_file.chmod(0o644)
    weights_file.write_bytes(b"damaged" * 10_000)
    shutil.rmtree(directory)
    bring(published)
    assert {path: (directory / path).read_bytes() for path in FILES} == FILES


def test_tampered_weights_are_never_in_the_models_directory(published: ModelSpec, hub: LoopbackMirror) -> None:
    hub.misbehave("*.safetensors", Fault(tamper=True))
    with pytest.raises(FetchFailed, match="other bytes"):
        bring(published)
    here = state.home()
    assert not weights.directory(here, published).exists()
    assert not weights.present(here, published)
    assert [path for path in here.models.rglob("*") if path.is_file()] == []


def test_the_bundled_model_needs_no_network(home: Path) -> None:
    assert bring(model("demo")) == ("bundled",)
    assert weights.present(state.home(), model("demo"))
