"""run, status and logs, with real processes: phases as they come, what a server is at, what it logged, how it stops."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests

from bootstrap import running, server_log
from bootstrap.state import Home
from runtime import kept_jobs
from tests.bootstrap import small_home
from tests.bootstrap.servers import at_work, free_port, started, submit, told, wait_until
from tests.conftest import COMMAND, HAS_RUNTIME, Tool, tool_in

pytestmark = pytest.mark.skipif(not HAS_RUNTIME, reason="the server needs the runtime's dependencies")

PHASES = ["server", "worker imports", "model load", "warm-up", "first frame"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return small_home.make(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def tool(home: Home) -> Tool:
    return tool_in(home.data)


@contextmanager
def on_a_terminal(said: Path) -> Iterator[Path]:
    """A terminal; what is written there lands in the file."""
    ours, theirs = pty.openpty()

    def copy() -> None:
        with said.open("wb", buffering=0) as file, suppress(OSError):  # EIO: everybody has closed it
            while data := os.read(ours, 4096):
                file.write(data)

    copying = threading.Thread(target=copy)
    copying.start()
    try:
        yield Path(os.ttyname(theirs))
    finally:
        os.close(theirs)
        copying.join()
        os.close(ours)


def test_where_no_server_runs_that_is_said_with_3(tool: Tool) -> None:
    assert told(tool, 3)["running"] is False
    done = tool("status", check=False)
    assert (done.returncode, "i2v-setup run" in done.stdout) == (3, True)
    done = tool("logs", check=False)
    assert done.returncode == 1
    assert "there is no log yet" in done.stderr
    assert "state       not running" in tool("logs", "--summary").stdout


def the_log_tells_of(made: str, tool: Tool, home: Home, url: str) -> None:
    """Raw and readable, the lines to come, and the summary, while the job is made and then cancelled."""
    raw = [json.loads(line) for line in tool("logs", "--json", "-n", "3").stdout.splitlines()]
    assert len(raw) == 3
    assert (raw[-1]["event"], raw[-1]["job"]) == ("begun", made)
    assert f"{made}: begun" in tool("logs").stdout.splitlines()[-1]
    command = [*COMMAND, "logs", "-f", "-n", "1"]
    environment = {**os.environ, "I2V_SETUP_HOME": str(home.data)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert "begun" in following.stdout.readline()
        requests.delete(f"{url}/v1/videos/{made}", timeout=30)
        assert f"{made}: cancelled" in following.stdout.readline()
        following.kill()

    summary = tool("logs", "--summary").stdout
    for part in ("torch ", "model       demo", "warm-up: ", f"{made[:14]}… failed", "cancelled"):
        assert part in summary
    assert made not in summary


def test_a_server_from_its_start_to_its_end(home: Home, tool: Tool, tmp_path: Path) -> None:
    port, said = free_port(), tmp_path / "said"
    url = f"http://127.0.0.1:{port}"
    with started(home, said, "--port", port) as run:
        # Phases are told while later ones are still to come, and go into the report.
        wait_until(lambda: "start the server: " in said.read_text() or run.poll())
        assert "first frame: " not in said.read_text()
        assert told(tool, 0)["ready"] is False
        wait_until(lambda: f"ready: {url}" in said.read_text() or run.poll())
        titles = [*("start i2v-setup", "start the server", "import torch and diffusers", "load the model", "warm up")]
        shown = re.findall(r"^  (\S[^:\n]*): [\d.]+ s(?:, [\d.]+ s after the start)?$", said.read_text(), re.MULTILINE)
        assert shown == [*titles, "first frame"]
        (section,) = json.loads(tool("report", "--json").stdout)["sections"]
        phases = [timing["phase"] for timing in section["timings"] if timing["phase"] != "start"]
        assert (section["kind"], phases) == ("run", PHASES)
        assert {"model", "torch", "device", "precision"} <= set(section["facts"])

        idle = told(tool, 0)
        assert (idle["ready"], idle["model"], idle["waiting"], idle["at"]) == (True, "demo", 0, None)
        assert idle["server"]["environment"] == home.current.resolve().name
        assert idle["memory"] > 100e6
        assert 0 < idle["device_memory"]["available"] <= idle["device_memory"]["total"]
        assert idle["restarts"] == 0
        made, waits = submit(url), submit(url)
        busy = at_work(tool)
        assert (busy["at"]["job"], busy["at"]["steps"], busy["waiting"]) == (made, 200, 1)
        assert f"{made}: step " in tool("status").stdout

        the_log_tells_of(made, tool, home, url)

        # A stop gives the job back, and its attempt does not count; nothing runs on.
        wait_until(lambda: at_work(tool)["at"]["job"] == waits)
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0
        psutil.wait_procs(children, timeout=30)
        assert not [child for child in children if child.is_running()]
    job = kept_jobs.newest(home.server, 1)[0]
    assert (job.id, job.status, job.attempts) == (waits, "queued", 0)
    assert "worker_lost" not in tool("logs", "--json").stdout
    assert told(tool, 3)["running"] is False
    summary = tool("logs", "--summary").stdout  # from what it left
    for part in (
        "state       not running",
        "model       demo",
        "device      ",
        "first frame: ",
        f"{waits[:14]}… queued",
    ):
        assert part in summary
    assert list(home.running.iterdir()) == []


def test_on_a_terminal_lines_are_readable_and_a_drain_ends_at_once_at_the_second_signal(
    home: Home, tool: Tool, tmp_path: Path
) -> None:
    port, said = free_port(), tmp_path / "said"
    with on_a_terminal(said) as terminal, started(home, terminal, "--port", port, "--drain", "3000") as run:
        wait_until(lambda: f"ready: http://127.0.0.1:{port}" in said.read_text() or run.poll())
        at_work(tool)  # the job that the last server gave back
        run.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping" in (told(tool, 0)["problem"] or ""))
        step = told(tool, 0)["at"]["step"]
        wait_until(lambda: told(tool, 0)["at"]["step"] > step)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 0
    job = kept_jobs.newest(home.server, 1)[0]
    assert (job.status, job.attempts) == ("queued", 0)
    text = said.read_text()
    assert '"message"' not in text
    assert f"{job.id}: begun, attempt 1" in text
    assert "stopping when the job" in text
    assert "stopping at once" in text


def test_following_the_log_goes_on_in_the_next_file_and_loses_no_line(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path, tmp_path, tmp_path)
    path = running.log_file(home)
    path.parent.mkdir()
    path.with_name("server.log.1").write_text("1\n2\n")
    path.write_text("3\n4\n5")
    coming = server_log.lines(home, 3, follow=True)
    assert [next(coming) for _ in range(3)] == ["2", "3", "4"]
    with path.open("a") as file:
        file.write("0\n6\n")
    path.replace(path.with_name("server.log.1"))
    path.write_text("7\n")
    assert [next(coming) for _ in range(3)] == ["50", "6", "7"]


def test_a_note_of_a_process_that_is_gone_or_another_one_by_now_is_none_of_a_server(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path, tmp_path, tmp_path)
    now = psutil.Process().create_time()
    with running.noted(home, running.Running("http://127.0.0.1:1", 1, os.getpid(), now)):
        found = running.find(home)
        assert found is not None
        assert found.port == 1
        assert running.find(home, 2) is None
    assert running.find(home) is None
    with running.noted(home, running.Running("http://127.0.0.1:1", 1, os.getpid(), now - 100)):
        assert running.find(home) is None
