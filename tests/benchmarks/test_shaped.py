"""The shaped mirrors send what they were told to, and count it. How fast they do is the benchmark's own first row."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable

import pytest

from benchmarks.farm import Bucket
from benchmarks.shaped import Count, Fault, File, Shape, ShapedMirrors

WHEEL = File("demo-1.0-py3-none-any.whl", 300_000, seed=7)
OTHER = File("other-1.0-py3-none-any.whl", 70_000)
PAGE, PATH = "/simple/demo/", f"/files/{WHEEL.name}"
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
CONTENT = WHEEL.content()


def ask(
    servers: ShapedMirrors, path: str = PATH, headers: dict[str, str] | None = None, number: int = 0
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; `http.client.IncompleteRead`, a reset or a time-out where there is none."""
    connection = http.client.HTTPConnection(servers.netloc(number), timeout=0.5)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_content_is_a_wheels_follows_from_name_and_seed_and_has_its_size() -> None:
    assert WHEEL.content() == CONTENT
    assert CONTENT.startswith(b"PK\x03\x04")
    assert len(CONTENT) == WHEEL.size
    assert File(WHEEL.name, WHEEL.size, seed=8).content() != CONTENT


def test_a_good_mirror_serves_pages_files_and_ranges_and_counts_them() -> None:
    with ShapedMirrors([Shape(rate=50e6, connection_rate=30e6, rtt=0.001)], [WHEEL, OTHER]) as servers:
        assert servers.mirrors[0].url == f"{servers.base(0)}/simple"
        assert servers.mirrors[0].upstream
        assert servers.sha256[WHEEL.name] == hashlib.sha256(CONTENT).hexdigest()
        (listed,) = json.loads(ask(servers, PAGE, JSON)[2])["files"]
        assert (listed["filename"], listed["url"]) == (WHEEL.name, servers.url(0, WHEEL.name))
        assert listed["hashes"] == {"sha256": servers.sha256[WHEEL.name]}
        assert f"#sha256={servers.sha256[WHEEL.name]}".encode() in ask(servers, PAGE)[2]
        assert ask(servers, "/simple/nothing/")[0] == 404
        assert ask(servers)[::2] == (200, CONTENT)
        status, headers, part = ask(servers, headers={"Range": "bytes=1000-1999"})
        assert (status, part, headers["content-range"]) == (206, CONTENT[1000:2000], "bytes 1000-1999/300000")
        assert ask(servers, headers={"Range": "bytes=299990-"})[2] == CONTENT[-10:]
        assert ask(servers, headers={"Range": "bytes=300000-"})[0] == 416
        assert servers.counts() == (Count(7, 300_000 + 1000 + 10),)
        servers.reset()
        assert servers.counts() == (Count(0, 0),)


def test_mirrors_share_the_files_and_keep_counts_of_their_own() -> None:
    with ShapedMirrors([Shape(), Shape(cold_rate=50e6, cold_wait=0.01)], [WHEEL]) as servers:
        assert ask(servers, number=1)[2] == CONTENT
        assert [count.requests for count in servers.counts()] == [0, 1]
        assert not servers.mirrors[1].upstream


@pytest.mark.parametrize(
    ("fault", "holds"),
    [
        (
            "stale",
            lambda s: ask(s)[0] == 404 and b"demo-0.9" in ask(s, PAGE)[2] and b"demo-1.0-" not in ask(s, PAGE)[2],
        ),
        ("size", lambda s: ask(s)[2] == CONTENT + b"more" and f"{s.sha256[WHEEL.name]}".encode() in ask(s, PAGE)[2]),
        ("portal", lambda s: ask(s)[0] == 200 and b"<html>" in ask(s)[2] and b"<html>" in ask(s, PAGE, JSON)[2]),
        ("redirect", lambda s: ask(s)[0] == 302 and ask(s)[1]["location"] == s.url(1, WHEEL.name)),
        ("links", lambda s: json.loads(ask(s, PAGE, JSON)[2])["files"][0]["url"] == s.url(1, WHEEL.name)),
        ("forbidden", lambda s: ask(s, headers={"User-Agent": "uv/0.9 x"})[0] == 403 and ask(s)[0] == 200),
    ],
)
def test_what_a_probe_can_see(fault: Fault, holds: Callable[[ShapedMirrors], bool]) -> None:
    with ShapedMirrors([Shape(fault=fault, target=1), Shape()], [WHEEL]) as servers:
        assert holds(servers)


def test_a_hanging_mirror_takes_the_request_and_says_nothing() -> None:
    with ShapedMirrors([Shape(fault="hang")], [WHEEL]) as servers:
        with pytest.raises(TimeoutError):
            ask(servers)
        assert servers.counts() == (Count(1, 0),)


def test_tampered_bytes_have_the_right_length_and_beginning_and_every_part_is_wrong() -> None:
    with ShapedMirrors([Shape(fault="tamper")], [WHEEL]) as servers:
        status, _, body = ask(servers)
        assert (status, len(body), body[:4]) == (200, len(CONTENT), CONTENT[:4])
        for start in range(0, WHEEL.size, 1 << 16):
            assert body[start : start + (1 << 16)] != CONTENT[start : start + (1 << 16)]
        assert ask(servers, headers={"Range": "bytes=0-99"})[2] == CONTENT[:100]


@pytest.mark.parametrize(("fault", "error"), [("dies", ConnectionError), ("stalls", TimeoutError)])
def test_a_mirror_fails_after_so_many_bytes_until_it_is_reset(fault: Fault, error: type[Exception]) -> None:
    with ShapedMirrors([Shape(rate=50e6, fault=fault, after=100_000)], [WHEEL]) as servers:
        assert ask(servers, headers={"Range": "bytes=0-49999"})[2] == CONTENT[:50_000]
        with pytest.raises((error, http.client.IncompleteRead)):
            ask(servers)
        with pytest.raises((error, http.client.RemoteDisconnected)):
            ask(servers, PAGE)
        assert 100_000 <= servers.counts()[0].file_bytes < WHEEL.size
        servers.reset()
        assert ask(servers, headers={"Range": "bytes=0-49999"})[2] == CONTENT[:50_000]


def test_what_is_shared_at_a_rate_is_through_one_after_the_other() -> None:
    bucket = Bucket(100.0)
    assert [bucket.through(50, 1.0), bucket.through(50, 1.2), bucket.through(10, 9.0)] == [1.5, 2.0, 9.1]
    assert Bucket(None).through(1 << 30, 1.0) == 1.0
