"""An engine that is too old to build runs images all the same: Docker 20.10, as Debian 12 has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from images.container import Container, start
from images.deliver import deliver
from images.engine import Engine, connect
from tests.conftest import Invoke
from tests.images.engines import an_engine
from tests.images.servers import SERVER, serving

pytestmark = pytest.mark.docker


_PROGRAMS = os.environ.get("I2V_TEST_OLD_ENGINE")


@pytest.fixture(scope="module")
def old_engine() -> Iterator[str]:
    if not _PROGRAMS:
        packages = "docker.io containerd runc libdevmapper1.02.1"
        pytest.skip(
            "I2V_TEST_OLD_ENGINE names no directory below /tmp with an old engine; on Debian 12: "
            f"apt-get download {packages}, and dpkg -x each of them into it"
        )
    with an_engine(900, programs=Path(_PROGRAMS)) as address:
        yield address


def test_it_is_said_before_anything_is_fetched_for_a_build(
    old_engine: str, invoke: Invoke, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", old_engine)
    done = invoke("build-image", "--torch", "cpu")
    assert done.exit_code == 1
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: Docker 20.10.")
    assert "is too old to build" in error
    assert "install Docker 23 or newer" in hint
    assert not list(home.rglob("*.whl"))
    with connect() as engine:
        assert list(engine.images()) == []


def test_one_that_lacks_the_image_is_not_told_to_build_it_there(
    old_engine: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", old_engine)
    done = invoke("run", "--docker", "nosuch:1")
    assert done.exit_code == 1
    assert "error: the engine has no image nosuch:1" in done.stderr
    assert "load" in done.stderr.splitlines()[-1]


def test_it_runs_an_image_that_was_built_elsewhere(
    engine: Engine,
    base_image: str,
    old_engine: str,
    tmp_path: Path,
    answering: Callable[[Container], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = serving(engine, base_image, SERVER, tmp_path / "base")
    monkeypatch.setenv("DOCKER_HOST", old_engine)
    with connect() as old:
        deliver(old, made, "i2v-test:old", lambda _size: None)
        with start(old, "i2v-test:old") as container:
            answering(container)
            assert requests.get(container.url, timeout=5).json()["arguments"] == ["--published-on", "127.0.0.1"]
        assert old.client.containers.list(all=True) == []
