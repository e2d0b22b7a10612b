"""Containers of a small server that stands in for the runtime's: they start in a second."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import requests

from images.container import Container, start
from images.engine import Engine
from images.errors import ImageError
from tests.images import servers

Answering = Callable[[Container], None]

pytestmark = pytest.mark.docker

_DYING = """
import sys
print('Traceback', file=sys.stderr); print('error: the model is damaged', file=sys.stderr)
print('hint: fetch it again', file=sys.stderr); sys.exit(1)
"""


@pytest.fixture
def server(engine: Engine, base_image: str, tag: str) -> str:
    return servers.put_into(engine, base_image, tag, servers.SERVER)


@pytest.fixture
def running(engine: Engine, server: str, container_name: str, answering: Answering) -> Iterator[Container]:
    with start(engine, server, name=container_name) as container:
        answering(container)
        yield container


def _settings(engine: Engine, name: str) -> dict[str, Any]:
    return dict(engine.client.containers.get(name).attrs)


def test_it_answers_and_knows_that_it_is_published_on_loopback(running: Container) -> None:
    running.check()
    assert requests.get(running.url, timeout=5).json()["arguments"] == ["--published-on", "127.0.0.1"]


def test_it_listens_on_loopback_only_and_has_no_privileges(engine: Engine, running: Container) -> None:
    settings = _settings(engine, running.name)
    assert [row["HostIp"] for row in settings["NetworkSettings"]["Ports"]["8000/tcp"]] == ["127.0.0.1"]
    host = settings["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert 0 < host["Memory"] < engine.info().memory


def test_stopping_it_lets_it_end_by_itself_and_removes_it(engine: Engine, running: Container) -> None:
    events = engine.client.events(decode=True, filters={"container": running.name, "event": "die"})
    with closing(events):
        running.stop()
        assert next(events)["Actor"]["Attributes"]["exitCode"] == "0"
    running.stop()
    assert not engine.client.containers.list(all=True, filters={"name": running.name})


def test_what_it_kept_is_there_for_the_next_of_its_name(
    engine: Engine, server: str, container_name: str, answering: Answering
) -> None:
    for _ in range(2):
        with start(engine, server, name=container_name) as container:
            answering(container)
            kept = requests.get(container.url, timeout=5).json()["kept"]
    assert kept == "xx"


def test_a_port_of_its_own_choice_is_used(
    engine: Engine, server: str, container_name: str, free_port: int, answering: Answering
) -> None:
    with start(engine, server, port=free_port, name=container_name) as container:
        assert container.url == f"http://127.0.0.1:{free_port}"
        answering(container)


def test_a_taken_port_is_said_and_nothing_is_left(engine: Engine, server: str, container_name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ImageError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            start(engine, server, port=port, name=container_name)
    assert "--port" in caught.value.hint
    assert not engine.client.containers.list(all=True, filters={"name": container_name})


def test_an_unknown_tag_is_said(engine: Engine, container_name: str) -> None:
    with pytest.raises(ImageError, match="no image nosuch:tag"):
        start(engine, "nosuch:tag", name=container_name)


def test_a_name_in_use_is_said(engine: Engine, running: Container, server: str) -> None:
    with pytest.raises(ImageError, match=f"a container named {running.name} is there already"):
        start(engine, server, name=running.name)


def test_one_that_was_left_behind_makes_way(
    engine: Engine, server: str, container_name: str, answering: Answering
) -> None:
    start(engine, server, name=container_name)
    engine.client.containers.get(container_name).kill()
    with start(engine, server, name=container_name) as container:
        answering(container)


def test_one_that_dies_at_the_start_gives_its_own_reason(
    engine: Engine, base_image: str, tag: str, container_name: str, answering: Answering
) -> None:
    image = servers.put_into(engine, base_image, tag, _DYING)
    with (
        pytest.raises(ImageError, match="ended with exit code 1: the model is damaged") as caught,
        start(engine, image, name=container_name) as container,
    ):
        answering(container)
    assert caught.value.hint == "fetch it again"
    assert not engine.client.containers.list(all=True, filters={"name": container_name})


def test_waiting_for_its_end_gives_the_exit_code(
    engine: Engine, base_image: str, tag: str, container_name: str
) -> None:
    image = servers.put_into(engine, base_image, tag, "import time; time.sleep(0.5); raise SystemExit(3)")
    with start(engine, image, name=container_name) as container:
        assert container.wait() == 3


def test_gpus_that_the_engine_cannot_give_are_said(engine: Engine, server: str, container_name: str) -> None:
    if engine.info().nvidia:
        pytest.skip("this engine has NVIDIA's runtime")
    with pytest.raises(ImageError, match="cannot give GPUs") as caught:
        start(engine, server, gpus="all", name=container_name)
    assert "NVIDIA Container Toolkit" in caught.value.hint
