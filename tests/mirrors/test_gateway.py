from __future__ import annotations

import http.client
import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from mirrors import gateway as gateway_module
from mirrors import listing
from mirrors.errors import FetchFailed
from mirrors.fetch import Downloads
from mirrors.gateway import Gateway
from mirrors.http import HttpSettings
from mirrors.resolve import Wheel
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror, until
from tests.small_wheels import locked, small_wheel

NAME, SMALL = small_wheel()
BIG_NAME, BIG = small_wheel("big_package", size=3_000_000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def downloads(store: Store, http: HttpSettings) -> Iterator[Downloads]:
    with Downloads(store, http) as downloads:
        yield downloads


@pytest.fixture
def wheels(mirror: LoopbackMirror) -> tuple[Wheel, Wheel]:
    mirror.add(NAME, SMALL)
    mirror.add(BIG_NAME, BIG)
    return locked(NAME, SMALL, mirror.url(NAME)), locked(BIG_NAME, BIG, mirror.url(BIG_NAME))


@pytest.fixture
def gateway(wheels: tuple[Wheel, Wheel], downloads: Downloads) -> Iterator[Gateway]:
    with Gateway(wheels, downloads) as gateway:
        yield gateway


def get(url: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        return session.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=20)


def test_the_index_lists_exactly_the_locked_wheels_as_html_and_as_json(gateway: Gateway) -> None:
    for type_ in (listing.JSON, "text/html"):
        root = get(gateway.index_url, Accept=type_)
        assert root.headers["Content-Type"].startswith(type_)
        assert "tiny-package" in root.text
    page = get(f"{gateway.index_url}tiny-package/", Accept=listing.JSON).json()
    assert [file["filename"] for file in page["files"]] == [NAME]
    assert page["files"][0]["size"] == len(SMALL)
    assert f"{NAME}#sha256={page['files'][0]['hashes']['sha256']}" in get(f"{gateway.index_url}tiny-package/").text


def test_what_is_not_in_the_lock_is_not_there(gateway: Gateway) -> None:
    for url in (
        f"{gateway.index_url}other/",
        gateway.url("other-1.0-py3-none-any.whl"),
        gateway.url("../../etc/passwd"),
    ):
        assert get(url).status_code == 404


def test_a_wheel_comes_through_whole_and_a_second_client_costs_no_byte(
    gateway: Gateway, mirror: LoopbackMirror, store: Store
) -> None:
    assert get(gateway.url(BIG_NAME)).content == BIG
    asked = len(mirror.requests)
    assert get(gateway.url(BIG_NAME)).content == BIG
    assert len(mirror.requests) == asked
    assert gateway.download(BIG_NAME).result().path == store.path(gateway.wheels[BIG_NAME].artifact.sha256)


@pytest.mark.parametrize("there_already", [False, True])
@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=100-199", slice(100, 200)),
        ("bytes=2999000-", slice(2_999_000, None)),
        ("bytes=-500", slice(-500, None)),
        ("bytes=0-99999999", slice(None)),
    ],
)
def test_single_ranges(wanted: str, part: slice, there_already: bool, gateway: Gateway) -> None:
    if there_already:
        gateway.download(BIG_NAME).result()
    answer = get(gateway.url(BIG_NAME), Range=wanted)
    assert answer.status_code == 206
    assert answer.content == BIG[part]
    start = part.indices(len(BIG))[0]
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(BIG)}"


def test_a_range_past_the_end_and_several_ranges(gateway: Gateway) -> None:
    past = get(gateway.url(NAME), Range="bytes=99999-")
    assert (past.status_code, past.headers["Content-Range"]) == (416, f"bytes */{len(SMALL)}")
    several = get(gateway.url(NAME), Range="bytes=0-1,5-6")
    assert (several.status_code, several.content) == (200, SMALL)


def test_head_tells_the_size(gateway: Gateway) -> None:
    with requests.Session() as session:
        answer = session.head(gateway.url(BIG_NAME), timeout=20)
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(BIG)))


def test_metadata_is_read_from_the_verified_wheel(gateway: Gateway, tmp_path: Path) -> None:
    answer = get(f"{gateway.url(NAME)}.metadata")
    assert answer.status_code == 200
    assert "Name: tiny_package" in answer.text
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w"):
        pass
    assert listing.metadata(empty) is None


def test_a_connection_is_kept_for_the_next_request(gateway: Gateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(gateway.index_url).port, timeout=20)
    for _ in range(2):
        connection.request("GET", f"/files/{NAME}")
        assert connection.getresponse().read() == SMALL
        kept = connection.sock
    assert connection.sock is kept
    connection.close()


def test_a_name_that_points_here_is_not_served(gateway: Gateway) -> None:
    assert get(gateway.index_url, Host="evil.example").status_code == 421
    assert get(gateway.index_url, Host="[::1").status_code == 400
    assert get(gateway.index_url, Host="localhost").status_code == 200


def test_bytes_are_passed_on_while_the_file_still_comes_in(gateway: Gateway, mirror: LoopbackMirror) -> None:
    mirror.misbehave("/files/big*", Fault(rate=1_000_000))
    with requests.Session() as session, session.get(gateway.url(BIG_NAME), stream=True, timeout=20) as answer:
        first = answer.raw.read(1000)
        assert mirror.sent < len(BIG)
        mirror.misbehave("/files/big*", None)
        assert first + answer.raw.read() == BIG


def status(url: str) -> int | None:
    """The answer's status; None where its body was broken off."""
    try:
        return get(url).status_code
    except requests.RequestException:
        return None


@pytest.mark.parametrize("whole", [False, True])
def test_wrong_bytes_never_make_a_whole_file(
    whole: bool, wheels: tuple[Wheel, Wheel], mirror: LoopbackMirror, downloads: Downloads, store: Store
) -> None:
    mirror.misbehave("/files/big*", Fault(tamper=True))
    with Gateway(wheels, downloads, whole=whole) as gateway:
        answers = [status(gateway.url(BIG_NAME)) for _ in range(4)]
        assert answers[-1] == 424
        assert set(answers) == ({424} if whole else {None, 424})
        assert bool(gateway.unfinished) != whole
        failure = gateway.failures[BIG_NAME]
        assert isinstance(failure, FetchFailed)
        assert "sha256" in str(failure)
    assert not store.has(wheels[1].artifact.sha256)


def test_a_file_that_nobody_has_is_told_before_anything_is_sent(gateway: Gateway, mirror: LoopbackMirror) -> None:
    mirror.misbehave("/files/*", Fault(status=403))
    answer = get(gateway.url(NAME))
    assert answer.status_code == 424
    assert isinstance(gateway.failures[NAME], FetchFailed)
    assert "403" in str(gateway.failures[NAME])


def test_a_client_that_hangs_up_is_no_fault_of_the_mirror(gateway: Gateway, mirror: LoopbackMirror) -> None:
    mirror.misbehave("/files/big*", Fault(rate=2_000_000))
    with socket.create_connection(("127.0.0.1", urlsplit(gateway.index_url).port or 0)) as client:
        client.sendall(f"GET /files/{BIG_NAME} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert client.recv(100)
    assert gateway.download(BIG_NAME).result().bytes_fetched == len(BIG)
    assert gateway.failures == {}
    assert get(gateway.url(BIG_NAME)).content == BIG


def test_several_clients_at_once_cost_the_bytes_once(gateway: Gateway, mirror: LoopbackMirror) -> None:
    mirror.misbehave("/files/big*", Fault(rate=4_000_000))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: get(gateway.url(BIG_NAME)).content, range(8))) == {BIG}
    assert mirror.sent <= len(BIG) * 1.01


def test_a_waiting_client_for_the_whole_gets_signs_of_life_and_then_the_file(
    wheels: tuple[Wheel, Wheel], mirror: LoopbackMirror, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "_PATIENCE", 0.1)
    mirror.misbehave("/files/big*", Fault(rate=300_000))
    with Gateway(wheels, downloads, whole=True) as gateway:
        gateway.prefetch()
        port = urlsplit(gateway.index_url).port or 0
        usual = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        usual.request("GET", f"/files/{BIG_NAME}")
        with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rb") as answer:
            client.sendall(f"GET /files/{BIG_NAME} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert answer.read().endswith(BIG)
        assert usual.getresponse().read() == BIG
        usual.close()
    assert mirror.requested(f"/files/{NAME}")


def test_leaving_lets_idle_connections_go(wheels: tuple[Wheel, Wheel], downloads: Downloads) -> None:
    before = threading.active_count()
    with Gateway(wheels, downloads) as gateway:
        client = socket.create_connection(("127.0.0.1", urlsplit(gateway.index_url).port or 0))
        until(lambda: threading.active_count() > before + 1)
    with client:
        client.settimeout(20)
        assert client.recv(1) == b""


def test_the_json_page_is_what_the_standard_says(gateway: Gateway) -> None:
    page = json.loads(listing.project("tiny-package", [gateway.wheels[NAME]], listing.JSON))
    assert page["meta"]["api-version"] == "1.0"
    assert set(page) == {"meta", "name", "files"}
