"""The whole path, as a user walks it: install, generate, run, build an image, run it. Nothing is stood in for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
import requests

from tests.conftest import COMMAND, PHOTO, Tool, tool_in

TAG = "i2v-setup-test:end-to-end"
CONTAINER = "i2v-setup-test-end-to-end"


def test_an_installation_is_current_complete_and_configured(installed: Path, tool: Tool) -> None:
    current = installed / "current"
    assert (current / "generation.json").is_file()
    told = json.loads(tool("report", "--json").stdout)
    phases = [timing["phase"] for timing in told["sections"][0]["timings"]]
    assert phases[:2] == ["start", "detect"]
    assert phases.index("choose") < phases.index("packages") < phases.index("current")
    assert {"packages", "weights", "checks", "checks.generation", "current"} <= set(phases)
    environment = {**os.environ, "PIP_CONFIG_FILE": str(current / "pip.conf")}
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "global.index-url" in listing
    assert "trusted-host" not in listing
    assert all((current / name).is_file() for name in ("uv.toml", ".condarc", ".mambarc"))
    assert not (Path((current / "uv.toml").resolve()).stat().st_mode & 0o077)


def test_the_same_install_again_does_nothing(tool: Tool) -> None:
    plan = json.loads(tool("install", "--model", "demo", "--torch", "cpu", "--dry-run", "--json").stdout)
    assert plan["steps"] == []
    tool("install", "--model", "demo", "--torch", "cpu", "--yes")


@pytest.mark.parametrize(
    ("arguments", "frames", "size"),
    [([], 16, (576, 384)), (["--preset", "preview", "--size", "256x256"], 8, (256, 256))],
)
def test_a_real_photo_becomes_a_video_of_the_frames_and_size_asked_for(
    arguments: list[str], frames: int, size: tuple[int, int], tool: Tool, tmp_path: Path
) -> None:
    out = tmp_path / "video.mp4"
    made = json.loads(tool("generate", str(PHOTO), "-o", str(out), "--seed", "7", "--json", *arguments).stdout)
    assert made["path"] == str(out)
    assert decoded(out) == (frames, size)
    if probe := shutil.which("ffprobe"):
        entries = ["-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "json"]
        told = subprocess.run([probe, "-v", "error", *entries, str(out)], capture_output=True, text=True, check=True)
        assert json.loads(told.stdout)["streams"][0] == {"codec_name": "h264", "nb_read_frames": str(frames)}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such-photo.jpg", "-o", "out.mp4"], 2, "no-such-photo.jpg"),
        ([__file__, "-o", "out.mp4"], 1, "not a picture"),
        ([str(PHOTO), "-o", "out.avi"], 2, ".mp4"),
        ([str(PHOTO), "-o", "no-such-directory/out.mp4"], 2, "directory"),
        ([str(PHOTO), "-o", "out.mp4", "--model", "nonesuch"], 2, "nonesuch"),
        ([str(PHOTO), "-o", "out.mp4", "--preset", "nonesuch"], 2, "nonesuch"),
        ([str(PHOTO), "-o", "out.mp4", "--size", "500x500"], 2, "500"),
        ([str(PHOTO), "-o", "out.mp4", "--size", "9" * 400 + "x64"], 2, "WIDTHxHEIGHT"),
        ([str(PHOTO), "-o", "out.mp4", "--fps", "2"], 2, "fps"),
    ],
)
def test_wrong_input_is_one_line_and_a_hint_and_leaves_no_file(
    arguments: list[str], code: int, says: str, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = tool("generate", *arguments, check=False)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert says in next(line for line in lines if line.startswith("error: "))
    assert lines[-1].startswith("hint: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_environment_is_built_anew_when_asked_also_without_a_network(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    tool = tool_in(home)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))  # what is in uv's own cache is not fetched
    tool("install", "--torch", "cpu", "--yes")
    (package,) = home.glob("envs/*/lib/python*/site-packages/av")
    shutil.rmtree(package)
    made = tool("generate", str(PHOTO), "-o", str(tmp_path / "v.mp4"), check=False)
    assert made.returncode == 1
    # All that it needs is in the store by now, so no mirror has to be reached.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    tool("install", "--torch", "cpu", "--yes", "--rebuild")
    tool("generate", str(PHOTO), "-o", str(tmp_path / "v.mp4"), "--size", "64x64", "--steps", "1", "--frames", "2")
    assert decoded(tmp_path / "v.mp4") == (2, (64, 64))


def test_the_server_reports_its_start_makes_a_video_and_stops_at_ctrl_c(
    installed: Path, tool: Tool, tmp_path: Path
) -> None:
    port = free_port()
    with started(installed, "run", "--port", str(port)) as server:
        url = f"http://127.0.0.1:{port}"
        wait_ready(url, server)
        assert decoded(video_over_http(url, tmp_path)) == (8, (128, 128))
        taken = tool("run", "--port", str(port), check=False)
        assert taken.returncode == 1
        assert str(port) in taken.stderr
        assert "hint:" in taken.stderr
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    sections = json.loads(tool("report", "--json").stdout)["sections"]
    phases = next(section for section in sections if section["kind"] == "run")["timings"]
    assert len(phases) >= 4
    assert all(timing["seconds"] >= 0 for timing in phases)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/health", timeout=5)


def test_an_install_killed_in_the_middle_leaves_nothing_current_and_the_next_one_completes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with started(home, "install", "--torch", "cpu", "--yes") as install:
        deadline = time.monotonic() + 120
        while not list(home.glob("envs/*/uv.toml")) and time.monotonic() < deadline:
            time.sleep(0.01)
        install.kill()
        install.wait()
    assert not (home / "current").exists()
    completes(home)


@pytest.mark.docker
def test_an_image_is_built_and_serves_a_video_through_its_api(
    installed: Path, tool: Tool, base_image: str, tmp_path: Path
) -> None:
    arguments = ["--model", "demo", "--torch", "cpu", "--tag", TAG, "--base-image", base_image]
    planned = json.loads(tool("build-image", *arguments, "--dry-run", "--json").stdout)
    assert any("demo" in step["detail"] for step in planned)
    try:
        tool("build-image", *arguments)
        port = free_port()
        with started(installed, "run", "--docker", TAG, "--port", str(port)) as server:
            url = f"http://127.0.0.1:{port}"
            wait_ready(url, server)
            assert decoded(video_over_http(url, tmp_path)) == (8, (128, 128))
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        assert (
            "i2v-setup-test" not in subprocess.run(["docker", "ps"], capture_output=True, text=True, check=True).stdout
        )
        kinds = [section["kind"] for section in json.loads(tool("report", "--json").stdout)["sections"]]
        assert kinds == ["build-image", "run"]
    finally:
        subprocess.run(["docker", "rm", "--force", CONTAINER], capture_output=True, check=False)
        subprocess.run(["docker", "volume", "rm", f"{CONTAINER}-data"], capture_output=True, check=False)
        subprocess.run(["docker", "image", "rm", "--force", TAG], capture_output=True, check=False)
        tool("install", "--torch", "cpu", "--yes")  # the last deployment is the installation's again


@contextmanager
def started(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command as a process, killed at the end if it is still there."""
    environment = {**os.environ, "I2V_SETUP_HOME": str(home)}
    # A shell may have us ignore SIGINT, as it does for its background jobs; the command is to be as a user starts it.
    with subprocess.Popen([*COMMAND, *arguments], env=environment, preexec_fn=heed_ctrl_c) as process:  # noqa: PLW1509 - no threads here
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def completes(home: Path) -> None:
    """An install after the interrupted ones succeeds, and leaves nothing of them."""
    tool_in(home)("install", "--torch", "cpu", "--yes")
    assert (home / "current" / "generation.json").is_file()
    assert len(list((home / "envs").iterdir())) == 1
    assert [path.name for path in (home / "cache" / "models").iterdir() if path.name.startswith(".")] == []


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            if requests.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise AssertionError("the server did not become ready")


def video_over_http(url: str, directory: Path) -> Path:
    """Post the photo, poll until it is done, download the video."""
    fields = {"prompt": "clouds drift", "preset": "preview", "size": "128x128", "num_inference_steps": "3", "seed": "1"}
    with PHOTO.open("rb") as photo:
        answer = requests.post(f"{url}/v1/videos", data=fields, files={"input_reference": photo}, timeout=30)
    assert answer.ok, answer.text
    job = answer.json()
    deadline = time.monotonic() + 120
    while job["status"] in {"queued", "in_progress"} and time.monotonic() < deadline:
        time.sleep(0.2)
        job = requests.get(f"{url}/v1/videos/{job['id']}", timeout=30).json()
    assert job["status"] == "completed", job
    content = requests.get(f"{url}/v1/videos/{job['id']}/content", timeout=30)
    assert content.headers["Content-Type"] == "video/mp4"
    path = directory / "over-http.mp4"
    path.write_bytes(content.content)
    return path


def decoded(path: Path) -> tuple[int, tuple[int, int]]:
    """How many frames a video has, and their width and height."""
    with av.open(str(path)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert len(set(sizes)) == 1
    return len(sizes), sizes[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
