"""stop, with real servers and real containers: what it ends, what it waits for, and what it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import requests
from docker.errors import NotFound

from bootstrap import running, supervision
from bootstrap.running import Running
from bootstrap.state import Home
from images.container import start
from images.engine import Engine
from runtime import kept_jobs
from tests.bootstrap import small_home
from tests.bootstrap.servers import at_work, free_port, started, submit, told, wait_until
from tests.conftest import COMMAND, HAS_RUNTIME, Tool, tool_in
from tests.images import servers

needs_runtime = pytest.mark.skipif(not HAS_RUNTIME, reason="the server needs the runtime's dependencies")


@pytest.fixture
def own_home(tmp_path: Path) -> Home:
    return small_home.make(tmp_path / "own")


@pytest.fixture
def own_tool(own_home: Home) -> Tool:
    return tool_in(own_home.data)


@pytest.fixture
def tag(engine: Engine, base_image: str) -> Iterator[str]:
    """An image of the server that stands in; what is left of it and its container is removed afterwards."""
    name = f"i2v-test-stop-{uuid.uuid4().hex[:12]}"
    yield servers.put_into(engine, base_image, f"{name}:1", servers.SERVER)
    for found in engine.client.containers.list(all=True, filters={"name": f"^/{name}-1$"}):
        found.remove(force=True)
    engine.client.images.remove(f"{name}:1", force=True)
    try:
        engine.client.volumes.get(f"{name}-1-data").remove(force=True)
    except NotFound:
        return


def containers(engine: Engine, tag: str) -> list[str]:
    """The ids of the containers of that image, ended ones too."""
    return [str(one.id) for one in engine.client.containers.list(all=True, filters={"ancestor": tag})]


def becomes_ready(run: subprocess.Popen[bytes], said: Path, port: str) -> str:
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: f"ready: {url}" in said.read_text() or run.poll())
    assert run.poll() is None, said.read_text()
    return url


@contextmanager
def noted_process(home: Home, port: int, *, seconds_off: float = 0.0, run_off: float = 0.0) -> Iterator[psutil.Process]:
    """A process that a note says is a server, and its own `run`, each started that much earlier than it was."""
    with subprocess.Popen(["sleep", "600"]) as child:
        process = psutil.Process(child.pid)
        began = process.create_time()
        note = Running(f"http://127.0.0.1:{port}", port, child.pid, began - seconds_off, child.pid, began - run_off)
        home.running.mkdir(parents=True, exist_ok=True)
        (home.running / f"{port}.json").write_text(json.dumps(asdict(note)))
        try:
            yield process
        finally:
            child.kill()


def test_where_nothing_runs_that_is_said_and_is_no_error(own_tool: Tool) -> None:
    assert "no server runs: nothing to stop" in own_tool("stop").stderr
    assert "no server runs on port 9: nothing to stop" in own_tool("stop", "--port", "9").stderr


def test_a_process_that_has_the_number_of_one_that_is_gone_is_left_alone(own_tool: Tool, own_home: Home) -> None:
    with noted_process(own_home, 1, seconds_off=100) as process:
        assert "nothing to stop" in own_tool("stop", "--at-once").stderr
        assert process.is_running()


def test_of_several_servers_it_has_to_be_said_which_one(own_tool: Tool, own_home: Home) -> None:
    with noted_process(own_home, 11) as first, noted_process(own_home, 12, run_off=100) as second:
        refused = own_tool("stop", check=False)
        assert refused.returncode == 2
        assert "2 servers run, on the ports 11, 12" in refused.stderr
        assert "i2v-setup stop --port 11" in own_tool("stop", "--port", "13").stderr
        assert "stopped: http://127.0.0.1:12" in own_tool("stop", "--port", "12").stderr
        assert psutil.wait_procs([second], timeout=30)[0] == [second]
        assert first.is_running()


@needs_runtime
def test_a_local_server_ends_and_its_run_with_it(own_tool: Tool, own_home: Home, tmp_path: Path) -> None:
    port, said = free_port(), tmp_path / "said"
    with started(own_home, said, "--port", port) as run:
        url = becomes_ready(run, said, port)
        submit(url)
        submit(url)
        children = psutil.Process(run.pid).children(recursive=True)
        done = own_tool("stop")
        assert f"stopped: {url} (2 jobs wait for the next start)" in done.stderr
        assert run.wait(5) == 0
        assert not [child for child in children if running.is_there(child)]
    assert list(own_home.running.iterdir()) == []
    assert told(own_tool, 3)["running"] is False


@needs_runtime
def test_one_that_still_starts_ends_too(own_tool: Tool, own_home: Home, tmp_path: Path) -> None:
    with started(own_home, tmp_path / "said", "--port", free_port()) as run:
        wait_until(lambda: list(own_home.running.glob("*.json")))
        own_tool("stop")
        assert run.wait(5) == 130
    assert list(own_home.running.iterdir()) == []


@needs_runtime
def test_a_job_is_finished_first_where_it_is_to_be_unless_at_once(
    own_tool: Tool, own_home: Home, tmp_path: Path
) -> None:
    port, said, heard = free_port(), tmp_path / "said", tmp_path / "heard"
    with started(own_home, said, "--port", port, "--drain", "3000") as run:
        submit(becomes_ready(run, said, port))
        at_work(own_tool)
        environment = {**os.environ, "I2V_SETUP_HOME": str(own_home.data)}
        with heard.open("wb") as file, subprocess.Popen([*COMMAND, "stop"], env=environment, stderr=file) as waiting:
            wait_until(lambda: "stopping" in (told(own_tool, 0)["problem"] or ""))
            # Whoever asks again waits too: a second signal to `run` would end the job.
            with subprocess.Popen([*COMMAND, "stop"], env=environment, stderr=subprocess.DEVNULL) as second:
                step = told(own_tool, 0)["at"]["step"]
                wait_until(lambda: told(own_tool, 0)["at"]["step"] > step + 5)
                assert (run.poll(), waiting.poll(), second.poll()) == (None, None, None)
                assert "(1 job waits for the next start)" in own_tool("stop", "--at-once").stderr
                assert (run.wait(5), waiting.wait(5), second.wait(5)) == (0, 0, 0)
        assert "a job that is made is finished first, for 3000 s at most" in heard.read_text()
    (job,) = kept_jobs.newest(own_home.server, 2)
    assert (job.status, job.attempts) == ("queued", 0)


@needs_runtime
def test_a_local_server_whose_run_was_killed_ends_too(own_tool: Tool, own_home: Home, tmp_path: Path) -> None:
    port, said = free_port(), tmp_path / "said"
    with started(own_home, said, "--port", port) as run:
        submit(becomes_ready(run, said, port))
        at_work(own_tool)
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
        run.wait()
        own_tool("stop")  # the system has told the server already; it may have ended by now, or not
        assert told(own_tool, 3)["running"] is False
        psutil.wait_procs(family, timeout=30)
        assert not [process for process in family if running.is_there(process)]
    (job,) = kept_jobs.newest(own_home.server, 2)
    assert (job.status, job.attempts) == ("queued", 0)


@pytest.mark.docker
def test_a_container_is_removed_by_its_run_and_keeps_its_volume(
    own_tool: Tool, own_home: Home, tmp_path: Path, engine: Engine, tag: str
) -> None:
    port, said = free_port(), tmp_path / "said"
    with started(own_home, said, "--docker", tag, "--port", port) as run:
        url = becomes_ready(run, said, port)
        assert told(own_tool, 0)["server"]["container"] == tag.replace(":", "-")
        volume = f"{tag.replace(':', '-')}-data"
        assert f"stopped: {url} (its jobs and videos stay in the volume {volume})" in own_tool("stop").stderr
        assert run.wait(5) == 0
    assert containers(engine, tag) == []
    assert engine.client.volumes.get(volume)


@pytest.mark.docker
@pytest.mark.parametrize("options", [[], ["--at-once"]])
def test_a_container_whose_run_was_killed_is_told_and_removed(
    options: list[str], own_tool: Tool, own_home: Home, tmp_path: Path, engine: Engine, tag: str
) -> None:
    port, said, name = free_port(), tmp_path / "said", tag.replace(":", "-")
    with started(own_home, said, "--docker", tag, "--port", port) as run:
        url = becomes_ready(run, said, port)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert requests.get(url, timeout=5).ok  # it runs on
    assert "left running" in own_tool("status", check=False).stdout
    (left,) = told(own_tool, 3)["abandoned"]
    assert (left["up"], left["server"]["container"]) == (True, name)
    again = own_tool("run", "--docker", tag, "--port", port, check=False)
    assert f"a container named {name} is there already" in again.stderr
    assert "i2v-setup stop" in again.stderr

    done = own_tool("stop", *options)
    assert f"the container {name} runs on although its `run` was killed" in done.stderr
    assert f"removed: the container {name} (its jobs and videos stay in the volume {name}-data)" in done.stderr
    assert containers(engine, tag) == []
    assert list(own_home.running.iterdir()) == []
    assert told(own_tool, 3)["abandoned"] == []
    assert "nothing to stop" in own_tool("stop").stderr


@pytest.mark.docker
def test_a_container_of_somebody_else_that_has_the_name_by_now_is_left_alone(
    own_tool: Tool, own_home: Home, tmp_path: Path, engine: Engine, tag: str
) -> None:
    port, said, name = free_port(), tmp_path / "said", tag.replace(":", "-")
    with started(own_home, said, "--docker", tag, "--port", port) as run:
        becomes_ready(run, said, port)
        run.send_signal(signal.SIGKILL)
        run.wait()
    engine.client.containers.get(name).remove(force=True)
    with start(engine, tag, name=name) as theirs:
        assert f"the container {name} is a server too, but was not started from here" in own_tool("stop").stderr
        theirs.check()


@pytest.mark.docker
def test_an_engine_that_does_not_answer_is_said_and_the_note_stays(
    own_tool: Tool, own_home: Home, tmp_path: Path, engine: Engine, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, said = free_port(), tmp_path / "said"
    with started(own_home, said, "--docker", tag, "--port", port) as run:
        becomes_ready(run, said, port)
        run.send_signal(signal.SIGKILL)
        run.wait()
    with monkeypatch.context() as patched:
        patched.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
        assert "whether it runs on is not known: no Docker engine answers" in own_tool("stop").stderr
        assert "perhaps left" in own_tool("status", check=False).stdout
    assert "removed: the container" in own_tool("stop").stderr
    assert containers(engine, tag) == []


@pytest.mark.parametrize(
    ("groups", "started_by_systemd", "command"),
    [
        ("0::/system.slice/i2v-setup.service", False, "sudo systemctl stop i2v-setup.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/i2v-setup.service",
            False,
            "systemctl --user stop i2v-setup.service",
        ),
        (
            "8:pids:/x.service\n1:name=systemd:/system.slice/video.service\n0::/",
            True,
            "sudo systemctl stop video.service",
        ),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/gnome-terminal-server.service", False, None),
        ("0::/system.slice/ssh.service", False, None),
        ("0::/user.slice/user-1000.slice/session-3.scope", True, None),
        ("0::/", False, None),
    ],
)
def test_of_a_service_the_command_is_told_that_stops_it(
    groups: str, started_by_systemd: bool, command: str | None, tmp_path: Path
) -> None:
    process = tmp_path / "proc" / "77"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(f"{groups}\n")
    (process / "environ").write_bytes(b"A=1\0SYSTEMD_EXEC_PID=%d\0B=2\0" % (77 if started_by_systemd else 70))
    assert supervision.stop_command(77, tmp_path) == command
