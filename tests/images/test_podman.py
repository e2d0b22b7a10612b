"""Podman in Docker's place: found by its command, given an image that was written elsewhere, serving as Docker does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from images import layout
from images.container import Container, start
from images.deliver import deliver
from images.engine import Engine, connect
from images.errors import EngineUnavailable, ImageError
from tests.conftest import COMMAND, Invoke
from tests.images.layers import image, layer
from tests.images.servers import DYING, SERVER, serving

pytestmark = pytest.mark.docker

_NO_PODMAN = "needs podman on the PATH, one that sees /tmp"

Answering = Callable[[Container], None]


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    if not shutil.which("podman"):
        pytest.skip(_NO_PODMAN)
    monkeypatch.setenv("I2V_ENGINE", "podman")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with connect() as engine:
        yield engine


@pytest.fixture(scope="module")
def served(engine: Engine, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The tags of images with a program in them, each loaded from an archive that was written elsewhere."""
    if not shutil.which("podman"):
        pytest.skip(_NO_PODMAN)
    directory = tmp_path_factory.mktemp("podman")
    tags = {program: f"i2v-test:{uuid.uuid4().hex[:12]}" for program in (SERVER, DYING)}
    for program, tag in tags.items():
        layout.write(serving(engine, base_image, program, directory / "base"), directory / "image.tar", tag)
        subprocess.run(["podman", "load", "--quiet", "--input", directory / "image.tar"], check=True)
    yield tags
    subprocess.run(["podman", "rmi", *tags.values()], check=True, capture_output=True)


@pytest.fixture
def name(podman: Engine) -> Iterator[str]:
    """A name for a container, which is removed afterwards with its volume."""
    chosen = f"i2v-test-{uuid.uuid4().hex[:12]}"
    yield chosen
    subprocess.run(["podman", "rm", "--force", "--ignore", chosen], check=True, capture_output=True)
    subprocess.run(["podman", "volume", "rm", "--force", f"{chosen}-data"], check=False, capture_output=True)


def test_an_image_that_was_written_elsewhere_is_served_with_the_same_limits(
    podman: Engine, served: dict[str, str], name: str, free_port: int, answering: Answering
) -> None:
    tag = served[SERVER]
    for kept in ("x", "xx"):
        with start(podman, tag, free_port, name=name, drain=2) as container:
            answering(container)
            told = requests.get(container.url, timeout=5).json()
            assert told["arguments"] == ["--published-on", "127.0.0.1", "--drain", "2"]
            assert told["kept"] == kept
            settings = json.loads(subprocess.run(["podman", "inspect", name], capture_output=True, check=True).stdout)[
                0
            ]
            with pytest.raises(ImageError, match=f"a container named {name} is there already") as caught:
                start(podman, tag, name=name)
            assert "podman rm" in caught.value.hint
        host = settings["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(free_port)}]}
        assert "no-new-privileges" in host["SecurityOpt"]
        assert not settings["EffectiveCaps"]
        assert 0 < host["Memory"] < podman.info().memory
    assert not podman.client.containers.list(all=True, filters={"name": name})


def test_one_that_dies_at_the_start_gives_its_own_reason(
    podman: Engine, served: dict[str, str], name: str, answering: Answering
) -> None:
    with (
        pytest.raises(ImageError, match="ended with exit code 1: the model is damaged"),
        start(podman, served[DYING], name=name) as container,
    ):
        answering(container)
    assert not podman.client.containers.list(all=True, filters={"name": name})


def test_a_taken_port_is_said(podman: Engine, served: dict[str, str], name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ImageError, match=f"port {port} on 127.0.0.1 is taken"):
            start(podman, served[SERVER], port, name=name)


def test_a_gpu_that_there_is_not_is_said(podman: Engine, served: dict[str, str], name: str) -> None:
    with pytest.raises(ImageError) as caught:
        start(podman, served[SERVER], gpus="no-such", name=name)
    if podman.info().release < (5, 4):
        assert "cannot give GPUs" in str(caught.value)
    else:
        assert "Podman knows no such GPU" in str(caught.value)
        assert "nvidia-ctk cdi generate" in caught.value.hint


def test_a_gpu_is_given_as_a_cdi_device(
    podman: Engine, served: dict[str, str], name: str, answering: Answering
) -> None:
    try:
        container = start(podman, served[SERVER], gpus="made-up", name=name)
    except ImageError as error:
        pytest.skip(f"needs a CDI device nvidia.com/gpu=made-up that sets MADE_UP_GPU: {error}")
    with container:
        answering(container)
        assert requests.get(container.url, timeout=5).json()["gpu"] == "made-up"


def test_it_takes_an_image_of_weights(podman: Engine) -> None:
    tag = f"i2v-test:{uuid.uuid4().hex[:12]}"
    wanted = image([layer("a", 3 << 20), layer("b")])
    delivered = deliver(podman, wanted, tag, lambda _size: None)
    try:
        assert list(podman.image(tag).diff_ids) == [one.diff_id for one in wanted.layers]
        assert delivered.how == "load"
    finally:
        podman.untag(tag)


def test_the_run_command_waits_reports_and_stops_by_podman_where_no_docker_answers(
    served: dict[str, str], podman: Engine, tmp_path: Path, free_port: int
) -> None:
    tag = served[SERVER]
    hidden = 'mount --bind /dev/null "$(readlink -f /var/run/docker.sock)"; exec "$@"'  # for this command alone
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        hidden,
        "sh",
        *COMMAND,
        "run",
        "--docker",
        tag,
        "--port",
        str(free_port),
    ]
    environment = {**os.environ, "I2V_ENGINE": "", "I2V_SETUP_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("ready: "):
                assert requests.get(f"http://127.0.0.1:{free_port}", timeout=5).ok
                process.terminate()  # what Ctrl-C does, were it not ignored by a background job
    name = tag.replace(":", "-")
    subprocess.run(["podman", "volume", "rm", f"{name}-data"], check=True, capture_output=True)
    assert process.returncode == 0, said
    assert any(line.startswith("ready: http://127.0.0.1:") for line in said)
    assert not podman.client.containers.list(all=True, filters={"name": name})


def test_its_service_ends_when_it_is_let_go(podman: Engine) -> None:
    before = psutil.Process().children()
    with connect() as second:
        assert second.client.ping()
        (ours,) = set(psutil.Process().children()) - set(before)
    assert not ours.is_running()


def test_it_is_told_that_it_cannot_build(podman: Engine, invoke: Invoke) -> None:
    done = invoke("build-image", "--torch", "cpu")
    assert done.exit_code == 1
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: Podman cannot build this image")
    assert "podman load" in hint


def test_one_that_does_not_work_is_said_with_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\necho 'Error: no storage' >&2; exit 125\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("I2V_ENGINE", "podman")
    with pytest.raises(EngineUnavailable, match="Podman does not serve: Error: no storage") as caught:
        connect()
    assert "podman info" in caught.value.hint


def test_one_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("I2V_ENGINE", "podman")
    with pytest.raises(EngineUnavailable, match="podman command is not on the PATH"):
        connect()


def test_an_engine_of_another_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2V_ENGINE", "containerd")
    with pytest.raises(EngineUnavailable, match="I2V_ENGINE=containerd names no engine"):
        connect()
