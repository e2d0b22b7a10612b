import stat
import subprocess
from pathlib import Path

import pytest

from images.engine import Engine, EngineInfo, check_builds, connect, find_buildx
from images.errors import EngineUnavailable, ImageError

docker = pytest.mark.docker


@docker
def test_an_engine_tells_what_it_is(engine: Engine) -> None:
    info = engine.info()
    assert info.release >= (23, 0)
    assert info.store
    assert info.memory > 0


@docker
def test_an_image_tells_its_size(engine: Engine, base_image: str) -> None:
    image = engine.image(base_image)
    assert image.id.startswith("sha256:")
    assert image.size > 0


@docker
def test_an_unknown_image_is_named_with_the_way_to_build_it(engine: Engine) -> None:
    with pytest.raises(ImageError, match="no image nosuch:tag") as caught:
        engine.image("nosuch:tag")
    assert "build-image --tag nosuch:tag" in caught.value.hint


@docker
def test_the_context_of_the_docker_command_is_followed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "nosuch")
    with pytest.raises(EngineUnavailable, match="no Docker context nosuch"):
        connect()


def test_no_engine_is_one_line_and_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnavailable, match=r"no Docker engine answers at unix:.*none\.sock") as caught:
        connect()
    assert "start Docker" in caught.value.hint


def test_an_address_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "not an address")
    with pytest.raises(EngineUnavailable):
        connect()


@pytest.mark.parametrize(("version", "old"), [("20.10.24+dfsg1", True), ("26.1.5+dfsg1", False), ("dev", False)])
def test_an_old_engine_is_refused(version: str, old: bool) -> None:
    info = EngineInfo(version, "overlay2", 1, nvidia=False)
    if old:
        with pytest.raises(ImageError, match="too old"):
            check_builds(info)
    else:
        check_builds(info)


def _docker_command(directory: Path, script: str) -> None:
    command = directory / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)


def test_a_missing_docker_command_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="docker command is not on the PATH"):
        find_buildx()


def test_a_missing_buildx_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _docker_command(tmp_path, "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="no buildx plugin") as caught:
        find_buildx()
    assert "docker-buildx-plugin" in caught.value.hint


@docker
def test_the_real_docker_command_without_buildx_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))  # where its plugins are looked for as well
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0:
        pytest.skip("buildx is a plugin of the whole system here")
    with pytest.raises(ImageError, match="no buildx plugin"):
        find_buildx()


@pytest.mark.parametrize(
    ("said", "version", "progress"),
    [
        ("github.com/docker/buildx v0.12.1 30feaa1", (0, 12), "plain"),
        ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3", (0, 13), "rawjson"),
        ("github.com/docker/buildx v0.29.1-desktop.1 abc", (0, 29), "rawjson"),
    ],
)
def test_buildx_is_followed_as_well_as_its_version_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, version: tuple[int, int], progress: str
) -> None:
    _docker_command(tmp_path, f"echo '{said}'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_buildx().version == version
    assert find_buildx().progress == progress
