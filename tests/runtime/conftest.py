"""A real server process for the tests that need one, started once, and a real photo."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import requests
from PIL import Image

from runtime.models import model

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "temple.jpg"
Frames = npt.NDArray[np.uint8]
#: Small enough for many of them in a test run.
SMALL = {"size": "64x64", "num_frames": "4", "num_inference_steps": "4", "seed": "7"}
#: Long enough to be killed or cancelled on the way.
LONG = {"size": "256x256", "num_frames": "8", "num_inference_steps": "200", "seed": "7"}


def wait_until(condition: Callable[[], Any], seconds: float = 200) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it never happened")


def demo_directory() -> Path:
    """Where the bundled model lies."""
    directory = model("demo").bundled
    assert directory is not None
    return directory


@dataclass
class Server:
    """One server process on a free loopback port, and what a client does with it."""

    data_dir: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    model_dir: Path = field(default_factory=demo_directory)
    url: str = ""

    def start(self) -> "Server":
        log = self.data_dir.with_suffix(".log")
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "runtime.server", "--port", "0"),
                    *("--model-dir", str(self.model_dir), "--data-dir", str(self.data_dir)),
                    *self.arguments,
                ],
                stderr=file,
                env={**os.environ, **self.environment},
                cwd=ROOT,
            )
        found = wait_until(lambda: re.search(r"listening on (http[^\s\"]+)", log.read_text()) or self.process.poll())
        assert isinstance(found, re.Match), log.read_text()
        self.url = found[1]
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server and everything that it started."""
        started = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.send_signal(number)
        status = self.process.wait(30)
        _, left = psutil.wait_procs(started, timeout=30)
        assert not left
        return status

    def request(self, method: str, path: str, **settings: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        settings["headers"] = {**headers, **settings.get("headers", {})}
        return requests.request(method, self.url + path, timeout=30, **settings)

    def post(self, fields: dict[str, str], picture: bytes | None = None, **settings: Any) -> requests.Response:
        picture = PHOTO.read_bytes() if picture is None else picture
        files = {"input_reference": ("../../etc/passwd\r\n.jpg", picture)}
        return self.request("POST", "/v1/videos", data=fields, files=files, **settings)

    def submit(self, fields: dict[str, str], picture: bytes | None = None) -> str:
        answer = self.post(fields, picture)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def video(self, video_id: str) -> dict[str, Any]:
        return dict(self.request("GET", f"/v1/videos/{video_id}").json())

    def wait_for(self, video_id: str, status: str) -> dict[str, Any]:
        """The video as soon as it has the status, or has ended in another."""

        def ended() -> dict[str, Any] | None:
            video = self.video(video_id)
            return video if video["status"] in {status, "completed", "failed"} else None

        video: dict[str, Any] = wait_until(ended)
        assert video["status"] == status, video
        return video

    def wait_for_step(self, video_id: str, attempt: int = 1) -> None:
        """Until the attempt of this number is at work on the video."""

        def at_work() -> bool:
            video = self.video(video_id)
            return bool(video["step"]) and video["attempts"] == attempt

        wait_until(at_work)

    def content(self, video_id: str) -> bytes:
        answer = self.request("GET", f"/v1/videos/{video_id}/content")
        assert answer.status_code == 200, answer.text
        return answer.content

    def wait_ready(self) -> dict[str, Any]:
        wait_until(lambda: self.request("GET", "/ready").status_code == 200)
        return dict(self.request("GET", "/ready").json())

    def worker(self) -> psutil.Process:
        """The worker: the server's only grandchild, forked by its forkserver."""

        def grandchildren() -> list[psutil.Process]:
            children = psutil.Process(self.process.pid).children()
            return [grandchild for child in children for grandchild in child.children()]

        found: list[psutil.Process] = wait_until(grandchildren)
        (worker,) = found
        return worker


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server with the demo model, shared: each test leaves its queue empty."""
    started = Server(tmp_path_factory.mktemp("server") / "data").start()
    started.wait_ready()
    yield started
    if started.process.poll() is None:
        assert started.stop() == 0


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers of the test's own, on one data directory unless told otherwise."""
    servers: list[Server] = []

    def make(*arguments: str, **settings: Any) -> Server:
        servers.append(Server(tmp_path / "data", arguments, **settings).start())
        return servers[-1]

    yield make
    for started in servers:
        if started.process.poll() is None:
            left = psutil.Process(started.process.pid).children(recursive=True)
            started.process.kill()
            for process in left:  # they would end by themselves, after their imports
                process.kill()
            started.process.wait()


def encoded(picture: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()
