"""A server that is told to stop: what it is at goes back to the queue, or is finished first; and what it has logged."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from runtime import kept_jobs, logs
from tests.runtime.conftest import LONG, SMALL, Server, wait_until

#: Some seconds on a CPU, so that a signal comes while it is made.
SOME = {**LONG, "size": "128x128", "num_inference_steps": "60"}


def test_a_draining_server_finishes_what_it_makes_and_begins_nothing_new(new_server: Callable[..., Server]) -> None:
    server = new_server("--no-warmup", "--drain", "300")
    running, waiting = server.submit(SOME), server.submit(SMALL)
    server.wait_for_step(running)
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(300)
    assert status == 0
    jobs = {job.id: (job.status, job.attempts) for job in kept_jobs.newest(server.data_dir, 10)}
    assert jobs == {running: ("completed", 1), waiting: ("queued", 0)}


def test_a_draining_server_answers_and_takes_no_jobs_and_a_second_signal_ends_it(
    new_server: Callable[..., Server],
) -> None:
    server = new_server("--no-warmup", "--drain", "3000")
    running = server.submit(LONG)
    server.wait_for_step(running)
    server.process.send_signal(signal.SIGTERM)
    step = server.video(running)["step"]
    while server.video(running)["step"] <= step:  # it goes on
        assert server.process.poll() is None
    ready = server.request("GET", "/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "stopping" in ready.json()["error"]
    assert server.post(SMALL).status_code == 503
    assert server.stop(signal.SIGTERM) == 0
    (job,) = kept_jobs.newest(server.data_dir, 10)
    assert (job.status, job.attempts) == ("queued", 0)


def test_a_drain_ends_when_its_time_is_up(new_server: Callable[..., Server]) -> None:
    server = new_server("--no-warmup", "--drain", "0.2")
    running = server.submit(LONG)
    server.wait_for_step(running)
    assert server.stop(signal.SIGTERM) == 0
    (job,) = kept_jobs.newest(server.data_dir, 10)
    assert (job.status, job.attempts) == ("queued", 0)


def test_every_line_of_a_server_is_an_object_and_the_file_has_the_same_and_no_key(
    new_server: Callable[..., Server], tmp_path: Path
) -> None:
    key, kept = "a-key-of-the-test-0815", tmp_path / "logs" / "server.log"
    arguments = ("--no-warmup", "--log-file", str(kept), "--drain", "3000")
    server = new_server(*arguments, key=key, environment={"I2V_API_KEY": key})
    assert server.request("GET", f"/v1/options?api_key={key}").status_code == 200
    assert server.request("GET", "/v1/options", headers={"Authorization": f"Bearer {key}x"}).status_code == 401
    done = server.submit({**SMALL, "prompt": "a secret garden"})
    server.wait_for(done, "completed")
    failed = server.submit(LONG)
    server.wait_for_step(failed)
    server.worker().kill()
    server.wait_for_step(failed, attempt=2)
    server.request("DELETE", f"/v1/videos/{failed}")
    wait_until(lambda: "cancelled" in kept.read_text())
    assert server.stop() == 0  # there is nothing to finish, so at once
    text = server.data_dir.with_suffix(".log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert key not in text
    assert "secret garden" not in text
    events = {(line["event"], line.get("job")) for line in lines if "event" in line}
    assert {("listening", None), ("phase", None), ("ready", None), ("worker_lost", None), ("stopped", None)} <= events
    assert {("begun", done), ("completed", done), ("begun", failed), ("requeued", failed)} <= events
    assert kept.read_text() == text


def test_a_ctrl_c_that_reaches_the_worker_too_leaves_it_at_its_job(new_server: Callable[..., Server]) -> None:
    server = new_server("--no-warmup", "--drain", "300")
    running = server.submit(SOME)
    server.wait_for_step(running)
    for process in (psutil.Process(server.process.pid), server.worker()):  # as a terminal does it
        process.send_signal(signal.SIGINT)
    assert server.process.wait(300) == 0
    (job,) = kept_jobs.newest(server.data_dir, 10)
    assert (job.status, job.attempts) == ("completed", 1)


def test_jobs_of_a_directory_without_a_server_and_of_a_damaged_one_are_none(tmp_path: Path) -> None:
    assert kept_jobs.newest(tmp_path, 10) == []
    (tmp_path / kept_jobs.DATABASE).write_bytes(b"no database" * 100)
    assert kept_jobs.newest(tmp_path, 10) == []
    assert logs.kept_files(tmp_path / "none.log") == []
