"""What the HTTP interface refuses, and in what words."""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from runtime.uploads import MAX_BYTES
from runtime.video import read_settings
from tests.runtime.conftest import SMALL, Server
from tests.runtime.hostile import PICTURES, requests_that_are_no_forms


def refusal(answer: requests.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    assert set(error) == {"message", "code"}
    assert error["message"]
    return error


def test_health_answers(server: Server) -> None:
    assert server.request("GET", "/health").json()["status"] == "ok"


@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES.keys())
def test_hostile_uploads_are_refused(server: Server, content: bytes) -> None:
    error = refusal(server.post(SMALL, content), 400)
    assert error["code"] == "invalid_picture"
    assert "passwd" not in error["message"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [pytest.param(body, headers, id=name) for name, body, headers in requests_that_are_no_forms()],
)
def test_requests_that_are_no_forms_are_refused(server: Server, body: bytes, headers: dict[str, str]) -> None:
    answer = server.request("POST", "/v1/videos", data=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert refusal(answer, answer.status_code)["code"] in {
        "bad_request",
        "invalid_option",
        "invalid_picture",
        "too_large",
    }


def test_hostile_uploads_take_little_memory(server: Server) -> None:
    server.wait_ready()
    pid = server.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the kernel counts the peak anew
    before = psutil.Process(pid).memory_info().rss
    for content in PICTURES.values():
        server.post(SMALL, content)
    for _, body, headers in requests_that_are_no_forms():
        server.request("POST", "/v1/videos", data=body, headers=headers)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    assert int(found[1]) * 1024 - before < 200 * 2**20


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": "500x500"}, "nearest allowed is 512"),
        ({"size": "wide"}, "'wide' is not WIDTHxHEIGHT"),
        ({"preset": "ultra"}, "known presets: standard, preview"),
        ({"model": "sora-2"}, "this server serves 'demo'"),
        ({"width": "64"}, "width and height go together"),
        ({"width": "64", "height": "64", "size": "64x64"}, "one of the two"),
        ({"seconds": "nan"}, "seconds is nan"),
        ({"num_frames": "many"}, "'num_frames' cannot be used"),
        ({"num_frames": "1e9"}, "num_frames"),
        ({"fps": "1"}, "fps goes from 8 to 60"),
        ({"seed": "-1"}, "seed goes from 0"),
        ({"prompt": "a\x00b"}, "plain text"),
        ({"sped": "1"}, "'sped' cannot be used"),
        ({"fast": "a bit"}, "'fast' cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_clear_words(
    server: Server, fields: dict[str, str], words: str
) -> None:
    error = refusal(server.post(fields), 400)
    assert error["code"] == "invalid_option"
    assert words in error["message"]


def test_a_request_without_a_picture_says_how_to_send_one(server: Server) -> None:
    for settings in ({"data": SMALL}, {"json": SMALL}, {"data": {**SMALL, "input_reference": "a name"}}, {}):
        error = refusal(server.request("POST", "/v1/videos", **settings), 400)
        assert "multipart/form-data" in error["message"]
    broken = server.request("POST", "/v1/videos", data=b"--x\r\n", headers={"Content-Type": "multipart/form-data"})
    refusal(broken, 400)


def test_unknown_paths_ids_and_methods_are_told_in_the_same_shape(server: Server) -> None:
    assert refusal(server.request("GET", "/v1/videos/video_none"), 404)["code"] == "not_found"
    assert refusal(server.request("GET", "/v1/videos/..%2f..%2fjobs.sqlite3/content"), 404)["code"] == "not_found"
    assert refusal(server.request("DELETE", "/v1/videos/video_none"), 404)["code"] == "not_found"
    assert refusal(server.request("GET", "/v1/nothing"), 404)["code"] == "not_found"
    assert refusal(server.request("GET", "/../server.py"), 404)["code"] == "not_found"
    assert refusal(server.request("PATCH", "/v1/videos"), 405)["code"] == "method_not_allowed"


def test_a_video_that_is_not_there_yet_is_not_given(server: Server) -> None:
    video = server.submit({**SMALL, "num_inference_steps": "100"})
    assert refusal(server.request("GET", f"/v1/videos/{video}/content"), 409)["code"] == "not_completed"
    server.request("DELETE", f"/v1/videos/{video}")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.0.2.1", ""])
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    for path in ("/", "/health", "/v1/options"):
        assert refusal(server.request("GET", path, headers={"Host": host}), 421)["code"] == "foreign_host"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"]
)
def test_a_foreign_origin_is_refused(server: Server, origin: str) -> None:
    error = refusal(server.post(SMALL, headers={"Origin": origin}), 403)
    assert error["code"] == "foreign_origin"


def test_this_machines_own_names_are_served(server: Server) -> None:
    port = urlsplit(server.url).port
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        headers = {"Host": name, "Origin": f"http://{name}"}
        assert server.request("GET", "/health", headers=headers).status_code == 200


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(server: Server) -> None:
    told = server.request("POST", "/v1/videos", headers={"Content-Length": str(10**12)}, data=b"")
    assert refusal(told, 413)["code"] == "too_large"
    received = 0
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)

    def endless() -> Iterator[bytes]:
        nonlocal received
        yield b'--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a"\r\n\r\n'
        while received < 4 * MAX_BYTES:
            received += 2**20
            yield b"\0" * 2**20

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Transfer-Encoding": "chunked"}
    try:
        connection.request("POST", "/v1/videos", endless(), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "too_large")
    finally:
        connection.close()


def test_with_a_key_nothing_of_the_api_answers_without_it(new_server: Callable[..., Server]) -> None:
    guarded = new_server("--no-warmup", environment={"I2V_API_KEY": "the secret"})
    for authorization in ("", "Bearer", "Bearer wrong", "Basic the secret", "Bearer the secret2"):
        answer = requests.get(guarded.url + "/v1/options", headers={"Authorization": authorization}, timeout=30)
        assert refusal(answer, 401)["code"] == "invalid_api_key"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "the secret" not in answer.text
    assert refusal(guarded.post(SMALL), 401)
    assert guarded.request("GET", "/health").status_code == 200
    assert guarded.request("GET", "/").status_code == 200
    guarded.key = "the secret"
    assert guarded.request("GET", "/v1/options").json()["model"]["id"] == "demo"
    assert "the secret" not in guarded.data_dir.with_suffix(".log").read_text()


def test_the_page_is_served_with_a_policy_that_allows_nothing_from_elsewhere(server: Server) -> None:
    page = server.request("GET", "/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("app.js", "texts.js", "style.css", "icon.svg"):
        part = server.request("GET", f"/{name}")
        assert part.status_code == 200
        assert "//" not in part.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert "http" not in page.text
    assert "style=" not in page.text
    assert "<script>" not in page.text


def test_a_fast_video_tells_the_steps_that_it_makes_and_has_fast_in_its_file(server: Server, tmp_path: Path) -> None:
    video = server.submit({**SMALL, "fast": "true"})
    told = server.wait_for(video, "completed")
    assert (told["settings"]["fast"], told["settings"]["num_inference_steps"], told["steps"]) == (True, 4, 2)
    (tmp_path / "video.mp4").write_bytes(server.content(video))
    assert read_settings(tmp_path / "video.mp4")["fast"] is True
