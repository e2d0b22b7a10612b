"""Hashes of PyTorch's own wheels, learnt at the first use from a server on loopback that stands for PyTorch's index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import learnt_wheels, recipe, state, torch_builds
from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.errors import MirrorError, NoTorch
from mirrors.http import HttpSettings
from tests.conftest import Invoke
from tests.mirrors.loopback import Fault, LoopbackMirror

BUILD = torch_builds.find("rocm7.2")
HTTP = HttpSettings(connect_timeout=2, response_timeout=5)
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64"}
TORCH = "torch-2.13.0+rocm7.2-cp312-cp312-manylinux_2_28_x86_64.whl"
TRITON = "triton_rocm-3.7.1-cp312-cp312-linux_x86_64.whl"


@pytest.fixture
def upstream() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        server.add(TORCH, b"torch")
        server.add(TORCH.replace("x86_64", "aarch64"), b"for other machines")
        server.add(TORCH.replace("2.13.0", "2.12.0"), b"an older one")
        server.add(TRITON, b"triton")
        yield server


def learn(server: LoopbackMirror | None, said: list[str]) -> recipe.Lock:
    at: Mirror | None = catalogue.adhoc(server.index_url, "upstream", "pytorch") if server else None
    return learnt_wheels.lock(state.home(), BUILD, HTTP if server else None, said.append, upstream=at)


def hashes(lock: recipe.Lock) -> dict[str, set[str]]:
    return {pin.name: set(pin.sha256s) for pin in lock.pins("3.12", LINUX) if "rocm" in pin.name + pin.version}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_build_whose_hashes_are_shipped_needs_nothing(home: Path) -> None:
    build = torch_builds.find("cu126")
    assert learnt_wheels.lock(state.home(), build, None, print) == recipe.shipped_lock(build)
    assert not home.exists()


def test_what_is_learnt_is_said_kept_and_not_asked_for_again(home: Path, upstream: LoopbackMirror) -> None:
    said: list[str] = []
    first = learn(upstream, said)
    assert hashes(first) == {"torch": {sha256(b"torch")}, "triton-rocm": {sha256(b"triton")}}
    assert len(first.pins("3.12", LINUX)) == len(recipe.shipped_lock(BUILD).pins("3.12", LINUX)) + 2
    assert "2 wheels" in said[0]
    asked = len(upstream.requests)
    assert learn(None, said) == first
    assert learn(upstream, said) == first
    assert (len(upstream.requests), len(said)) == (asked, 1)


def test_what_was_learnt_stays_when_other_bytes_are_published(home: Path, upstream: LoopbackMirror) -> None:
    first = learn(upstream, [])
    upstream.add(TORCH, b"evil")
    assert learn(upstream, []) == first


def test_a_lock_that_names_no_files_leaves_no_package_out(home: Path, upstream: LoopbackMirror) -> None:
    first = learn(upstream, [])
    bare = "".join(line for line in first.path.read_text().splitlines(keepends=True) if not line.startswith("#"))
    first.path.write_text(bare)
    assert hashes(learn(None, [])) == {"torch": {sha256(b"torch")}, "triton-rocm": {sha256(b"triton")}}


@pytest.mark.parametrize("damaged", [b"\xff\xfe\x00", b"not a lock at all!"])
def test_a_damaged_lock_is_told_and_not_replaced(home: Path, upstream: LoopbackMirror, damaged: bytes) -> None:
    path = learn(upstream, []).path
    path.write_bytes(damaged)
    with pytest.raises(MirrorError, match=BUILD.lock):
        learn(upstream, [])
    assert path.read_bytes() == damaged


def test_a_new_shipped_lock_keeps_what_was_learnt(home: Path, upstream: LoopbackMirror) -> None:
    first = learn(upstream, [])
    text = first.path.read_text()
    older = text.replace("accelerate==", "accelerate==0.0.", 1)
    first.path.write_text(older)
    again = learn(None, [])
    assert again.path.read_text() == text


@pytest.mark.parametrize(
    ("fault", "told"),
    [(Fault(status=403), "lacks torch"), (Fault(portal=True), "web page"), (Fault(status=500), "HTTP 500")],
)
def test_an_index_that_cannot_teach_is_the_builds_fault_only(
    home: Path, upstream: LoopbackMirror, fault: Fault, told: str
) -> None:
    upstream.misbehave("/simple/*", fault)
    with pytest.raises(NoTorch, match=told):
        learn(upstream, [])
    assert not (state.home().config / "locks" / BUILD.lock).exists()


def test_nobody_is_asked_where_nobody_may_be(home: Path) -> None:
    with pytest.raises(NoTorch, match="may not be asked"):
        learn(None, [])


def test_a_wheel_without_a_hash_teaches_nothing(home: Path, upstream: LoopbackMirror) -> None:
    upstream.add(TORCH, b"torch", listed_sha256=None)
    with pytest.raises(NoTorch, match="no wheel"):
        learn(upstream, [])


def test_an_image_is_not_built_from_what_is_learnt_later(invoke: Invoke) -> None:
    done = invoke("build-image", "--torch", "rocm7.2", "--dry-run")
    assert done.exit_code == 2
    assert "an image cannot have ROCm 7.2" in done.output
