"""The server process: how it begins and ends, what it refuses, and that no acknowledged job is lost."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from runtime.jobs import MAX_WAITING
from runtime.models import model
from tests.runtime.conftest import LONG, PHOTO, ROOT, SMALL, Frames, Server, wait_until

DEMO = str(model("demo").bundled)


def frames_of(content: bytes) -> Frames:
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_it_is_ready_after_phases_that_follow_each_other(server: Server) -> None:
    ready = server.wait_ready()
    assert (ready["model"], ready["error"]) == ("demo", None)
    assert "random weights" in ready["note"]
    assert ready["device"]
    names = [phase["name"] for phase in ready["phases"]]
    assert names == ["server", "worker imports", "model load", "warm-up", "first frame"]
    end = 0.0
    for phase in ready["phases"]:
        assert phase["seconds"] > 0
        assert phase["started"] == pytest.approx(end, abs=0.05)
        end = phase["started"] + phase["seconds"]


def test_a_photo_becomes_a_video(server: Server) -> None:
    wanted = {"prompt": "clouds", "preset": "preview", "num_inference_steps": "3", "seed": "11", "model": "demo"}
    created = server.post(wanted)
    assert created.status_code == 202
    first = created.json()
    assert (first["object"], first["status"], first["size"], first["seconds"]) == ("video", "queued", "320x192", "1")
    video = server.wait_for(first["id"], "completed")
    assert (video["progress"], video["seed"], video["prompt"], video["error"]) == (100, 11, "clouds", None)
    assert set(video["stage_durations"]) == {"queue", "denoise", "decode", "encode"}
    answer = server.request("GET", f"/v1/videos/{first['id']}/content")
    assert answer.headers["Content-Type"] == "video/mp4"
    assert frames_of(answer.content).shape == (8, 192, 320, 3)


def test_the_same_seed_gives_identical_frames(server: Server) -> None:
    first, second, other = (
        server.content(server.wait_for(server.submit({**SMALL, "seed": seed}), "completed")["id"])
        for seed in ("7", "7", "8")
    )
    assert np.array_equal(frames_of(first), frames_of(second))
    assert not np.array_equal(frames_of(first), frames_of(other))


def test_a_cancel_acts_and_the_next_job_is_made(server: Server) -> None:
    running, waiting = server.submit(LONG), server.submit(SMALL)
    server.wait_for_step(running)
    assert server.request("DELETE", f"/v1/videos/{running}").json()["deleted"]
    cancelled = server.video(running)
    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    server.wait_for(waiting, "completed")


def test_a_waiting_job_can_be_cancelled_and_then_forgotten(server: Server) -> None:
    running, waiting = server.submit(LONG), server.submit(SMALL)
    assert server.video(waiting)["jobs_ahead"] == 1
    server.request("DELETE", f"/v1/videos/{waiting}")
    assert server.video(waiting)["error"]["code"] == "cancelled"
    server.request("DELETE", f"/v1/videos/{waiting}")
    assert server.request("GET", f"/v1/videos/{waiting}").status_code == 404
    server.request("DELETE", f"/v1/videos/{running}")


def test_a_cancel_that_comes_too_late_leaves_the_video_alone(server: Server) -> None:
    running, made = server.submit(LONG), None
    try:
        server.wait_for_step(running)
        cancelled = server.request("POST", f"/v1/videos/{running}/cancel").json()
        assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
        made = server.wait_for(server.submit(SMALL), "completed")
        late = server.request("POST", f"/v1/videos/{made['id']}/cancel")
        assert late.json() == made
        assert server.content(made["id"])
        assert server.request("POST", "/v1/videos/video_none/cancel").status_code == 404
    finally:
        for video in (running, *([made["id"]] if made else [])):
            server.request("DELETE", f"/v1/videos/{video}")


def test_a_full_queue_answers_429_and_makes_what_it_took(server: Server) -> None:
    running = server.submit(LONG)
    server.wait_for(running, "in_progress")
    taken = [server.submit(SMALL) for _ in range(MAX_WAITING)]
    refused = server.post(SMALL, b"never decoded: the queue is asked first")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) >= 1
    server.request("DELETE", f"/v1/videos/{running}")
    for video in taken:
        server.wait_for(video, "completed")


def test_a_worker_killed_while_it_waits_is_replaced(server: Server) -> None:
    before = server.wait_ready()["restarts"]
    worker = server.worker()
    worker.kill()
    wait_until(lambda: server.request("GET", "/ready").json()["restarts"] == before + 1)
    server.wait_ready()
    assert server.worker().pid != worker.pid
    server.wait_for(server.submit(SMALL), "completed")


def test_a_worker_killed_at_work_costs_one_attempt(server: Server) -> None:
    server.wait_ready()
    twin = server.content(server.wait_for(server.submit(SMALL), "completed")["id"])
    running, waiting = server.submit(LONG), server.submit(SMALL)
    server.wait_for_step(running)
    server.worker().kill()
    server.wait_for_step(running, attempt=2)
    server.request("DELETE", f"/v1/videos/{running}")
    assert server.video(server.wait_for(waiting, "completed")["id"])["attempts"] == 1
    assert np.array_equal(frames_of(server.content(waiting)), frames_of(twin))


def test_a_job_that_kills_its_worker_fails_after_three_attempts(server: Server) -> None:
    server.wait_ready()
    poison = server.submit(LONG)
    for attempt in (1, 2, 3):
        server.wait_for_step(poison, attempt)
        server.worker().kill()
    failed = server.wait_for(poison, "failed")
    assert failed["error"]["code"] == "attempts_exhausted"
    server.wait_for(server.submit(SMALL), "completed")


def test_the_parent_never_imports_torch(server: Server) -> None:
    maps = {mapped.path for mapped in psutil.Process(server.process.pid).memory_maps()}
    assert not [path for path in maps if "torch" in path]
    assert [path for path in {mapped.path for mapped in server.worker().memory_maps()} if "torch" in path]


def test_after_kill_9_of_the_server_its_jobs_are_made(new_server: Callable[..., Server]) -> None:
    killed = new_server("--no-warmup")
    videos = [killed.submit({**LONG, "size": "128x128", "num_inference_steps": "80"}), killed.submit(SMALL)]
    killed.wait_for_step(videos[0])
    assert killed.stop(signal.SIGKILL) == -signal.SIGKILL  # and nothing of it is left running
    again = new_server("--no-warmup")
    attempts = [again.wait_for(video, "completed")["attempts"] for video in videos]
    assert attempts == [2, 1]
    assert frames_of(again.content(videos[0])).shape == (8, 128, 128, 3)
    # A clean stop ends in the middle of a job too, and gives it back without counting the attempt.
    unfinished = again.submit(LONG)
    again.wait_for_step(unfinished)
    assert again.stop(signal.SIGINT) == 0
    last = new_server("--no-warmup")
    assert last.wait_for(unfinished, "in_progress")["attempts"] == 1


def test_a_model_that_cannot_be_loaded_is_said_and_tried_again(
    new_server: Callable[..., Server], tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(DEMO, directory)
    weights = directory / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"\xff" * len(whole))  # of the right size: only the loader sees it
    broken = new_server("--no-warmup", model_dir=directory)
    error = wait_until(lambda: broken.request("GET", "/ready").json()["error"])
    assert "cannot load the model demo" in error
    answer = broken.post(SMALL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_unavailable")
    assert broken.request("GET", "/health").status_code == 200
    weights.write_bytes(whole)
    broken.wait_ready()
    broken.wait_for(broken.submit(SMALL), "completed")


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.server", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False, timeout=60
    )


def test_what_keeps_it_from_starting_is_one_line_and_a_hint(tmp_path: Path, server: Server) -> None:
    model_dir, data_dir = ("--model-dir", DEMO), ("--data-dir", str(tmp_path / "data"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = {
            f"port {port} on 127.0.0.1 is taken": (*model_dir, *data_dir, "--port", port),
            "unknown model 'sora'": (*model_dir, *data_dir, "--model-id", "sora"),
            "does not hold the model demo": ("--model-dir", str(tmp_path), *data_dir),
            "there is no API key": (*model_dir, *data_dir, "--host", "0.0.0.0", "--port", "0"),
            "another server uses": (*model_dir, "--data-dir", str(server.data_dir), "--port", "0"),
            "cannot listen on 192.0.2.1": (*model_dir, *data_dir, "--host", "192.0.2.1"),
        }
        cases["cannot listen on 192.0.2.1"] += ("--published-on", "127.0.0.1")
        for message, arguments in cases.items():
            done = start(*arguments, I2V_API_KEY="")
            error, hint = done.stderr.splitlines()
            assert done.returncode == 1
            assert error.startswith("error: ")
            assert message in error
            assert hint.startswith("hint: ")
            assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read from {}: No such file or directory"),
        (b"\xff", "cannot be read from {}: it is no text"),
        (b" \n", "there is no API key in {}"),
        (b"hunter2\n", "cannot listen on 192.0.2.1"),  # it went on to what comes next
    ],
)
def test_a_key_that_a_file_should_hold_is_not_gone_without(content: bytes | None, message: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    place = ("--model-dir", DEMO, "--data-dir", str(tmp_path / "data"), "--host", "192.0.2.1")
    done = start(*place, I2V_API_KEY="", I2V_API_KEY_FILE=str(key))
    assert done.returncode == 1
    assert message.format(key) in done.stderr
    assert "hunter2" not in done.stderr


def test_the_modules_of_the_parent_load_no_torch() -> None:
    code = "import sys, runtime.server, runtime.api; print('torch' in sys.modules or 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


def test_the_photo_is_real() -> None:
    assert PHOTO.stat().st_size > 10_000
