"""The HTTP interface as its clients use it: the `openai` package, a browser's event stream, Prometheus, a person."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.runtime.conftest import LONG, PHOTO, SMALL, Server, wait_until
from tests.runtime.test_api import refusal


@pytest.fixture(scope="module")
def ready(server: Server) -> Server:
    server.wait_ready()
    return server


@pytest.fixture
def client(ready: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{ready.url}/v1", api_key="none is needed", max_retries=0) as made:
        yield made


def events(server: Server, video: str) -> list[tuple[str, dict[str, Any]]]:
    """All events of a video, until the stream ends."""
    found = []
    with server.request("GET", f"/v1/videos/{video}/events", stream=True) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines(decode_unicode=True):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                found.append((name, json.loads(value)))
    return found


@pytest.mark.filterwarnings("ignore:The Sora:DeprecationWarning", "ignore:.*deprecated:DeprecationWarning")
def test_the_openai_package_creates_polls_lists_downloads_and_deletes(client: openai.OpenAI) -> None:
    with PHOTO.open("rb") as photo:
        video = client.videos.create(
            prompt="clouds drift", input_reference=photo, model="demo", extra_body={**SMALL, "preset": "preview"}
        )
    assert (video.object, video.status) == ("video", "queued")
    done = client.videos.poll(video.id, poll_interval_ms=100)
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    listed = client.videos.list(limit=1)
    assert [each.id for each in listed.data] == [video.id]
    assert client.videos.retrieve(video.id).model == "demo"
    content = client.videos.download_content(video.id).read()
    assert content[4:8] == b"ftyp"
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"


@pytest.mark.filterwarnings("ignore:The Sora:DeprecationWarning", "ignore:.*deprecated:DeprecationWarning")
def test_the_openai_package_reads_our_refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="unknown model"):
        client.videos.create(prompt="x", input_reference=PHOTO.read_bytes(), model="sora-2")


def test_the_list_goes_page_by_page_in_both_orders(ready: Server) -> None:
    made = [ready.submit(SMALL) for _ in range(3)]
    newest = ready.request("GET", "/v1/videos?limit=2").json()
    assert [video["id"] for video in newest["data"]] == [made[2], made[1]]
    assert (newest["first_id"], newest["last_id"], newest["has_more"]) == (made[2], made[1], True)
    rest = ready.request("GET", f"/v1/videos?limit=1&after={newest['last_id']}").json()
    assert [video["id"] for video in rest["data"]] == [made[0]]
    oldest = ready.request("GET", f"/v1/videos?order=asc&after={made[0]}").json()["data"]
    assert [video["id"] for video in oldest] == made[1:]
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=nobody"):
        assert refusal(ready.request("GET", f"/v1/videos?{query}"), 400)["code"] == "invalid_option"
    for video in made:
        ready.wait_for(video, "completed")


def test_events_tell_each_change_until_the_end(ready: Server) -> None:
    video = ready.submit({**SMALL, "num_inference_steps": "100", "size": "128x128"})
    told = events(ready, video)
    assert {name for name, _ in told} == {"video"}
    states = [state for _, state in told]
    assert states[-1] == ready.video(video)
    assert states[-1]["status"] == "completed"
    steps = [state["step"] for state in states if state["status"] == "in_progress"]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    assert any(state["remaining_s"] for state in states)


def test_events_of_a_video_that_is_cancelled_end_with_that(ready: Server) -> None:
    video = ready.submit(LONG)
    ready.wait_for_step(video)
    with ready.request("GET", f"/v1/videos/{video}/events", stream=True) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert next(lines) == "event: video"
        ready.request("DELETE", f"/v1/videos/{video}")
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "cancelled"
    assert refusal(ready.request("GET", "/v1/videos/nobody/events"), 404)["code"] == "not_found"


def test_sync_answers_with_the_file_and_refuses_as_create_does(ready: Server) -> None:
    files = {"input_reference": ("photo.jpg", PHOTO.read_bytes())}
    answer = ready.request("POST", "/v1/videos/sync", data={**SMALL, "output_format": "gif"}, files=files)
    assert answer.status_code == 200
    assert answer.content.startswith(b"GIF8")
    assert ready.content(answer.headers["X-Video-Id"]) == answer.content
    refused = ready.request("POST", "/v1/videos/sync", data=SMALL, files={"input_reference": ("x", b"no picture")})
    assert refusal(refused, 400)["code"] == "invalid_picture"


def test_metrics_count_answers_by_their_route_and_jobs_by_their_end(ready: Server) -> None:
    def read() -> dict[tuple[str, ...], float]:
        answer = ready.request("GET", "/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    before = read()
    video = ready.submit(SMALL)
    ready.wait_for(video, "completed")
    ready.request("GET", "/v1/videos/nobody")
    ready.request("BREW", "/v1/videos/nobody-at-all")
    ready.request("GET", "/nobody-either")
    after = read()
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["i2v_jobs_ended_total", "completed"] == 1
    assert grown["i2v_job_stage_seconds_count", "denoise"] == 1
    assert grown["i2v_jobs", "completed"] == 1
    assert grown["i2v_http_requests_total", "POST", "/v1/videos", "202"] == 1
    assert grown["i2v_http_requests_total", "GET", "/v1/videos/{video_id}", "404"] == 1
    assert after["i2v_worker_ready",] == 1
    assert after["i2v_device_memory_bytes", "total"] > 2**30
    assert not any("nobody" in label for key in after for label in key)


def test_an_admin_loads_the_model_anew(ready: Server) -> None:
    old = ready.worker()
    assert refusal(ready.request("POST", "/admin/reload?model=svd"), 400)["code"] == "unknown_model"
    answer = ready.request("POST", "/admin/reload")
    assert (answer.status_code, answer.json()) == (202, {"reloading": "demo"})
    wait_until(lambda: ready.request("GET", "/ready").json()["reloading"] is None)
    wait_until(lambda: not old.is_running())
    ready.wait_ready()


def test_the_description_has_the_form_the_answers_and_the_errors_with_examples(ready: Server) -> None:
    described = ready.request("GET", "/openapi.json").json()
    create = described["paths"]["/v1/videos"]["post"]
    form = create["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["input_reference"]["format"] == "binary"
    assert form["properties"]["prompt"]["examples"]
    assert {"202", "400", "422", "429"} <= set(create["responses"])
    schemas = described["components"]["schemas"]
    assert schemas["Video"]["examples"]
    assert schemas["Failure"]["examples"]
    video = ready.submit(SMALL)
    assert set(ready.video(video)) == set(schemas["Video"]["properties"]) >= set(schemas["Video"]["examples"][0])
    ready.wait_for(video, "completed")


def test_the_summary_says_what_a_bug_report_needs_and_no_prompt(ready: Server) -> None:
    video = ready.submit({**SMALL, "prompt": "a private matter"})
    ready.wait_for(video, "completed")
    told = ready.request("GET", "/v1/summary").json()["text"]
    assert "private" not in told
    for words in (
        "i2v-setup",
        "torch 2.",
        "diffusers 0.",
        "model       demo",
        "CPU",
        "model load",
        video[:14],
        "denoise",
    ):
        assert words in told


def test_health_answers_before_the_worker_is_there_and_at_once(new_server: Any) -> None:
    began = time.monotonic()
    server = new_server()
    assert server.request("GET", "/health").json()["status"] == "ok"
    assert server.request("GET", "/ready").status_code == 503
    assert time.monotonic() > began
    assert io.BytesIO(server.request("GET", "/").content).read().startswith(b"<!doctype html>")
