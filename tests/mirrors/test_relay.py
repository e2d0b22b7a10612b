"""Addresses on this machine that stand for a mirror's."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest
import requests

from mirrors.http import HttpSettings
from mirrors.relay import Relay
from tests.mirrors.loopback import Fault, LoopbackMirror

BODY = bytes(range(256)) * 2000


@pytest.fixture
def published(mirror: LoopbackMirror) -> str:
    mirror.serve("/some/channel/noarch/repodata.json", BODY)
    return f"{mirror.base}/some/channel"


def test_a_file_is_passed_on_whole_in_part_and_by_its_headers(published: str, http: HttpSettings) -> None:
    counted: list[int] = []
    with Relay(http, counted.append) as relay:
        url = f"{relay.url(published)}/noarch/repodata.json"
        assert url.startswith("http://127.0.0.1:")
        assert "/channel/noarch/" in url
        assert relay.url(published) == relay.url(published)
        assert requests.get(url, timeout=5).content == BODY
        assert sum(counted) == len(BODY)
        part = requests.get(url, headers={"Range": "bytes=5-9"}, timeout=5)
        assert (part.status_code, part.content) == (206, BODY[5:10])
        head = requests.head(url, timeout=5)
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(BODY)), b"")
        assert requests.head(f"{relay.url(published)}/nothing", timeout=5).status_code == 404
        assert relay.failures == {}


def test_only_what_it_was_told_of_is_passed_on(published: str, http: HttpSettings, mirror: LoopbackMirror) -> None:
    mirror.serve("/some/secret", b"secret")
    with Relay(http) as relay:
        base = relay.url(published)
        netloc, path = urlsplit(base).netloc, urlsplit(base).path
        assert status(netloc, f"{path}/../secret") == 404
        assert status(netloc, f"{path}/%2e%2e/secret") == 404
        assert status(netloc, "/some/secret") == 404
        assert status(netloc, f"{path}/noarch/repodata.json") == 200
        assert status(netloc, f"{path}/noarch/repodata.json", host="rebound.example") == 421
        assert status(netloc, f"{path}/noarch/repodata.json", host="[::1") == 400
    assert mirror.requested("*secret*") == []


def test_a_directory_needs_no_relay(http: HttpSettings) -> None:
    with Relay(http) as relay:
        assert relay.url("file:///somewhere/channel") == "file:///somewhere/channel"


def test_a_mirror_that_fails_is_remembered_and_the_client_told(
    published: str, http: HttpSettings, mirror: LoopbackMirror
) -> None:
    with Relay(http) as relay:
        url = f"{relay.url(published)}/noarch/repodata.json"
        mirror.misbehave("*", Fault(redirect="http://elsewhere.example/"))
        assert requests.get(url, timeout=5).status_code == 502
        assert "is not https" in relay.failures[published]
        mirror.misbehave("*", Fault(truncate=1000))
        with pytest.raises(requests.RequestException):
            requests.get(url, timeout=5)
        assert relay.failures[published] == "ends the body before its announced length"


def test_a_body_that_breaks_off_is_resumed_where_the_file_is_surely_the_same(
    published: str, http: HttpSettings, mirror: LoopbackMirror
) -> None:
    mirror.misbehave("*", Fault(headers={"ETag": '"one"'}))
    mirror.misbehave("*/repodata.json", Fault(truncate=1000, times=1, headers={"ETag": '"one"'}))
    with Relay(http) as relay:
        answer = requests.get(f"{relay.url(published)}/noarch/repodata.json", timeout=5)
    assert answer.content == BODY
    asked = [seen.headers.get("range") for seen in mirror.requests]
    assert asked == [None, "bytes=1000-"]
    assert mirror.requests[1].headers["if-range"] == '"one"'


def test_a_body_that_breaks_off_and_is_another_file_by_then_is_not_pieced_together(
    published: str, http: HttpSettings, mirror: LoopbackMirror
) -> None:
    mirror.misbehave("*", Fault(headers={"ETag": '"two"'}))
    mirror.misbehave("*/repodata.json", Fault(truncate=1000, times=1, headers={"ETag": '"one"'}))
    with Relay(http) as relay:
        with pytest.raises(requests.RequestException):
            requests.get(f"{relay.url(published)}/noarch/repodata.json", timeout=5)
        assert "changed its index" in relay.failures[published]


def status(netloc: str, path: str, host: str | None = None) -> int:
    """The answer to a path that no library has tidied up."""
    connection = http.client.HTTPConnection(netloc, timeout=5)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host or netloc)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
