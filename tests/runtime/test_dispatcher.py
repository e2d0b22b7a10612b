"""The server at work: many jobs at once, a worker that hangs, reloads, formats, keys, too little room."""

import io
import shutil
import signal
import sqlite3
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.models import model
from runtime.options import build_request
from runtime.uploads import read_picture
from tests.runtime.conftest import LONG, PHOTO, SMALL, Server, demo_directory, encoded, wait_until

MANY = 20


def frames_in_zip(content: bytes) -> list[Image.Image]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]


@pytest.mark.filterwarnings("ignore")  # torch and diffusers warn of themselves
def test_twenty_jobs_at_once_are_each_what_the_engine_makes_alone(new_server: Callable[..., Server]) -> None:
    from runtime.pipeline import Engine

    server = new_server("--max-waiting", str(MANY), "--batch", "3")
    pictures = [encoded(read_picture(io.BytesIO(PHOTO.read_bytes())).rotate(9 * number)) for number in range(MANY)]
    fields = [
        {**SMALL, "seed": str(number), "prompt": f"scene {number}", "output_format": "png"} for number in range(MANY)
    ]
    with ThreadPoolExecutor(MANY) as clients:
        videos = list(clients.map(lambda number: server.submit(fields[number], pictures[number]), range(MANY)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = Engine.load(model("demo"), demo_directory())
    for number, video in enumerate(videos):
        server.wait_for(video, "completed")
        request = build_request(
            model=model("demo"),
            size="64x64",
            num_frames=4,
            num_inference_steps=4,
            seed=number,
            prompt=f"scene {number}",
        )
        alone = engine.generate(read_picture(io.BytesIO(pictures[number])), request, lambda *_: None).frames
        made = np.stack([np.asarray(frame) for frame in frames_in_zip(server.content(video))])
        # A batch of three differs from one alone in the last bits, and so by one where a value is rounded.
        assert np.abs(made.astype(int) - alone.astype(int)).max() <= 1


def test_a_worker_that_hangs_is_replaced_and_its_job_is_made(new_server: Callable[..., Server]) -> None:
    server = new_server("--hang-seconds", "3")
    server.wait_ready()
    video = server.submit(LONG)
    server.wait_for_step(video)
    hanging = server.worker()
    hanging.send_signal(signal.SIGSTOP)
    server.wait_for_step(video, attempt=2)
    assert not hanging.is_running()
    assert server.worker().pid != hanging.pid
    server.request("DELETE", f"/v1/videos/{video}")


def test_a_sighup_loads_the_model_anew_while_the_old_worker_serves(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.wait_ready()
    old, video = server.worker(), server.submit(LONG)
    server.wait_for_step(video)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.request("GET", "/ready").json()["reloading"] == "demo")
    assert server.video(video)["status"] == "in_progress"
    assert server.request("GET", "/ready").status_code == 200
    server.request("DELETE", f"/v1/videos/{video}")
    wait_until(lambda: server.request("GET", "/ready").json()["reloading"] is None)
    wait_until(lambda: not old.is_running())
    status = server.wait_ready()
    assert (status["restarts"], status["reload_error"]) == (0, None)
    server.wait_for(server.submit(SMALL), "completed")


def test_a_reload_that_fails_is_said_and_the_old_worker_stays(
    new_server: Callable[..., Server], tmp_path: Path
) -> None:
    shutil.copytree(demo_directory(), directory := tmp_path / "model")
    server = new_server(model_dir=directory)
    server.wait_ready()
    old = server.worker()
    (directory / "unet" / "config.json").write_text("{}")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.request("GET", "/ready").json()["reload_error"])
    assert "does not hold the model demo" in server.wait_ready()["reload_error"]
    assert old.is_running()
    server.wait_for(server.submit(SMALL), "completed")


def test_jobs_of_a_model_that_is_served_no_more_fail_and_say_so(new_server: Callable[..., Server]) -> None:
    server = new_server()
    waiting = [server.submit(LONG), server.submit(SMALL)]
    server.stop(signal.SIGKILL)
    with closing(sqlite3.connect(server.data_dir / "jobs.sqlite3")) as database, database:
        database.execute("UPDATE jobs SET model = 'svd-xt' WHERE id = ?", (waiting[0],))
    server = new_server()
    failed = server.wait_for(waiting[0], "failed")
    assert failed["error"]["code"] == "model_not_served"
    assert "svd-xt" in failed["error"]["message"]
    server.wait_for(waiting[1], "completed")


def test_the_same_key_makes_one_video_and_another_request_under_it_is_refused(server: Server) -> None:
    key = {"Idempotency-Key": "order 17"}
    fields = {name: value for name, value in SMALL.items() if name != "seed"}  # it is drawn anew for each request
    first, again = server.post(fields, headers=key).json(), server.post(fields, headers=key).json()
    assert first["id"] == again["id"]
    server.wait_for(first["id"], "completed")
    assert server.post(fields, headers=key).json()["status"] == "completed"
    refused = server.post({**fields, "prompt": "another"}, headers=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("name", "media_type", "begins"),
    [("mp4", "video/mp4", b"....ftyp"), ("webm", "video/webm", b"\x1aE\xdf\xa3"), ("gif", "image/gif", b"GIF89a")],
)
def test_a_video_comes_in_the_format_that_was_asked_for(
    server: Server, name: str, media_type: str, begins: bytes
) -> None:
    video = server.submit({**SMALL, "output_format": name})
    server.wait_for(video, "completed")
    answer = server.request("GET", f"/v1/videos/{video}/content")
    assert answer.headers["Content-Type"] == media_type
    assert f".{name}" in answer.headers["Content-Disposition"]
    found = answer.content[: len(begins)]
    assert found[begins.count(b".") :] == begins.lstrip(b".")


def test_an_unknown_format_is_refused(server: Server) -> None:
    refused = server.post({**SMALL, "output_format": "avi"})
    assert refused.status_code == 400
    assert "mp4" in refused.json()["error"]["message"]


def test_the_options_say_what_fits_and_how_long_it_takes(server: Server) -> None:
    server.wait_ready()
    options = server.request("GET", "/v1/options").json()
    presets = {preset["name"]: preset for preset in options["presets"]}
    assert set(presets) >= {"standard", "preview", "12gb", "24gb", "40gb"}
    assert presets["preview"]["fits"]
    assert presets["preview"]["expected_s"] > 0
    assert presets["preview"]["expected_s"] < presets["standard"]["expected_s"]
    assert {row["name"] for row in options["formats"]} == {"mp4", "webm", "gif", "png"}
    assert options["fast"]


def test_the_options_count_the_queue_and_heed_the_shape_of_the_picture(server: Server) -> None:
    server.wait_ready()
    assert server.request("GET", "/v1/options").json()["wait_s"] == 0
    running = server.submit(LONG)
    assert server.request("GET", "/v1/options").json()["wait_s"] > 0
    server.request("POST", f"/v1/videos/{running}/cancel")

    def standard(picture: str) -> float:
        options = server.request("GET", f"/v1/options?picture={picture}").json()
        return float(options["presets"][0]["expected_s"])

    # Fewer pixels where the picture is far from square, since both sides are whole steps of the model's.
    assert standard("4000x1000") < standard("1000x1000")
    for wrong in ("0x10", "wide", "10x", "99999999x1", ""):
        assert server.request("GET", f"/v1/options?picture={wrong}").status_code == 400, wrong
