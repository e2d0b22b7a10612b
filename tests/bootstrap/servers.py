"""Servers that `run` starts as a process of its own, and what is asked of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from bootstrap.state import Home
from tests.conftest import COMMAND, PHOTO, Tool

LONG = {"size": "256x256", "num_frames": "8", "num_inference_steps": "200", "seed": "7"}


@contextmanager
def started(home: Home, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`run` as a process, what it says in a file."""
    environment = {**os.environ, "I2V_SETUP_HOME": str(home.data), "OMP_NUM_THREADS": "2"}
    with log.open("wb") as file:
        process = subprocess.Popen([*COMMAND, "run", *arguments], env=environment, stderr=file)
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()


def wait_until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it never happened")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def told(tool: Tool, code: int) -> dict[str, Any]:
    """What `status --json` says."""
    done = tool("status", "--json", check=False)
    assert done.returncode == code, done.stderr
    return dict(json.loads(done.stdout))


def submit(url: str) -> str:
    with PHOTO.open("rb") as photo:
        answer = requests.post(f"{url}/v1/videos", data=LONG, files={"input_reference": photo}, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def at_work(tool: Tool) -> dict[str, Any]:
    """The status once the server has told a step of a job."""

    def look() -> dict[str, Any] | None:
        now = told(tool, 0)
        return now if now["at"] and now["at"]["step"] else None

    found: dict[str, Any] = wait_until(look)
    return found
