"""Where a lock's packages come from, and what fails where a build of PyTorch cannot be had: servers on loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import sourcing, state, torch_builds
from bootstrap.packages import PackageSources
from bootstrap.pip_settings import PipSettings
from bootstrap.recipe import Lock, Python, Recipe
from mirrors.errors import NoMirror, NoTorch
from mirrors.http import HttpSettings
from tests.bootstrap.test_recommend import BARE
from tests.mirrors.loopback import LoopbackMirror
from tests.small_wheels import small_wheel

HTTP = HttpSettings(connect_timeout=2, response_timeout=5)
ALPHA, TORCH = small_wheel("alpha", size=50_000), small_wheel("torch", size=50_000, version="1.0+cu126")
DEAD = "http://127.0.0.1:9/simple"


@pytest.fixture
def index() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        server.add(*ALPHA)
        yield server


@pytest.fixture
def pytorch() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        yield server


def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "lock.txt"
    lines = (
        f"{name} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n"
        for name, data in (("alpha==1.0", ALPHA[1]), ("torch==1.0+cu126", TORCH[1]))
    )
    path.write_text("".join(lines), encoding="utf-8")
    return Recipe(torch_builds.find("cu126"), Python("3.11", "3.11"), Lock.at(path))


def choose(tmp_path: Path, index: str, pytorch: str, pip: PipSettings | None = None) -> PackageSources:
    home = state.home()
    home.config.mkdir(parents=True, exist_ok=True)
    rows = (f"  - {{id: {name}, kind: pytorch, url: '{pytorch}'}}\n" for name in ("upstream", "aliyun", "nju", "sjtu"))
    home.user_mirrors.write_text("mirrors:\n" + "".join(rows), encoding="utf-8")
    here = replace(BARE, pip=pip or PipSettings())
    return sourcing.choose_sources(index, here, recipe(tmp_path), HTTP, home)


def test_torch_comes_from_where_its_build_is_and_all_else_from_the_package_index(
    home: Path, tmp_path: Path, index: LoopbackMirror, pytorch: LoopbackMirror
) -> None:
    pytorch.add(*TORCH)
    sources = choose(tmp_path, index.index_url, f"{pytorch.index_url}")
    assert [found.mirror.url for found in sources.indexes][:2] == [index.index_url, pytorch.index_url]


def test_where_nobody_has_the_build_it_is_the_builds_fault_alone(
    home: Path, tmp_path: Path, index: LoopbackMirror, pytorch: LoopbackMirror
) -> None:
    with pytest.raises(NoTorch):
        choose(tmp_path, index.index_url, pytorch.index_url)


def test_where_the_package_index_fails_no_other_build_would_help(
    home: Path, tmp_path: Path, pytorch: LoopbackMirror
) -> None:
    pytorch.add(*TORCH)
    with pytest.raises(NoMirror) as caught:
        choose(tmp_path, DEAD, pytorch.index_url)
    assert not isinstance(caught.value, NoTorch)


def test_a_package_index_that_has_the_build_too_will_do(home: Path, tmp_path: Path, index: LoopbackMirror) -> None:
    index.add(*TORCH)
    sources = choose(tmp_path, index.index_url, DEAD)
    assert {found.mirror.url for found in sources.indexes} == {index.index_url}


def test_a_build_in_a_local_directory_is_asked_of_nobody(home: Path, tmp_path: Path, index: LoopbackMirror) -> None:
    (tmp_path / TORCH[0]).write_bytes(TORCH[1])
    sources = choose(tmp_path, index.index_url, DEAD, PipSettings(find_links=(str(tmp_path),)))
    assert index.index_url in {found.mirror.url for found in sources.indexes}
    assert index.requested("*torch*") == []


def test_an_index_to_resolve_from_is_chosen_before_there_is_a_lock(
    home: Path, tmp_path: Path, index: LoopbackMirror
) -> None:
    with pytest.raises(NoMirror):
        sourcing.choose_index(index.index_url, BARE, "3.11", HTTP, state.home())
