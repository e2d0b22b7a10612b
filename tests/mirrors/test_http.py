"""The rules that every request keeps, against real servers."""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from mirrors.errors import MirrorError, Unreachable
from mirrors.http import HttpSettings, body, installer_user_agent, retry_after
from mirrors.interrupt import Interrupt, Interrupted
from mirrors.urls import is_loopback
from tests.mirrors.loopback import Fault, LoopbackMirror
from tests.mirrors.raw_server import MOST, Handler, RawServer


def read(http: HttpSettings, url: str) -> bytes:
    with http.get(url, {}) as response:
        return b"".join(body(response))


def test_we_introduce_ourselves_as_the_installer(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("a.bin", b"bytes")
    assert read(http, mirror.url("a.bin")) == b"bytes"
    assert mirror.requests[0].headers["user-agent"] == installer_user_agent()
    assert installer_user_agent().startswith("uv/")
    assert mirror.requests[0].headers["accept-encoding"] == "identity"


def test_a_redirect_is_followed_at_most_five_times(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave("/files/a", Fault(redirect="/files/a"))
    with pytest.raises(Unreachable, match="redirects more than 5 times"):
        http.get(mirror.url("a"), {})
    assert len(mirror.requests) == 6


def test_credentials_are_not_sent_to_another_host(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    other.add("a", b"x")
    mirror.misbehave("*", Fault(redirect=other.url("a")))
    assert read(http, mirror.url("a").replace("http://", "http://me:secret@")) == b"x"
    assert "authorization" in mirror.requests[0].headers
    assert "authorization" not in other.requests[0].headers


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    return path


def test_the_default_entry_of_netrc_is_for_no_mirror(mirror: LoopbackMirror, http: HttpSettings, netrc: Path) -> None:
    netrc.write_text("machine corp.example login a password b\ndefault login me password secret\n")
    mirror.add("b", b"x")
    mirror.misbehave("/files/a", Fault(redirect=mirror.url("b")))
    assert read(http, mirror.url("a")) == b"x"
    assert [seen.headers.get("authorization") for seen in mirror.requests] == [None, None]


def test_a_netrc_entry_is_for_exactly_its_host(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings, netrc: Path
) -> None:
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    other.add("a", b"x")
    mirror.misbehave("*", Fault(redirect=other.url("a").replace("127.0.0.1", "localhost")))
    assert read(http, mirror.url("a")) == b"x"
    assert mirror.requests[0].headers["authorization"] == basic("me", "secret")
    assert "authorization" not in other.requests[0].headers


def test_a_netrc_entry_is_for_its_host_after_a_redirect_too(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings, netrc: Path
) -> None:
    netrc.write_text("machine localhost login me password secret\n")
    other.add("a", b"x")
    mirror.misbehave("*", Fault(redirect=other.url("a").replace("127.0.0.1", "localhost")))
    assert read(http, mirror.url("a")) == b"x"
    assert "authorization" not in mirror.requests[0].headers
    assert other.requests[0].headers["authorization"] == basic("me", "secret")


def test_credentials_in_the_url_win_and_stay_on_their_host(
    mirror: LoopbackMirror, http: HttpSettings, netrc: Path
) -> None:
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    mirror.add("b", b"x")
    mirror.misbehave("/files/a", Fault(redirect="/files/b"))
    assert read(http, mirror.url("a").replace("http://", "http://you:p%2Fw@")) == b"x"
    assert [seen.headers.get("authorization") for seen in mirror.requests] == [basic("you", "p/w")] * 2


def test_a_netrc_file_that_cannot_be_read_is_none(mirror: LoopbackMirror, http: HttpSettings, netrc: Path) -> None:
    mirror.add("a", b"x")
    netrc.write_text("this is no netrc file")
    assert read(http, mirror.url("a")) == b"x"
    assert "authorization" not in mirror.requests[0].headers


def endless_redirect(headers: bytes, block: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 302 Found\r\nLocation: /there\r\n" + headers + b"\r\n"
    for _ in range(MOST // len(block)):
        yield block


@pytest.mark.parametrize(
    ("headers", "block"),
    [
        (b"Connection: close\r\n", bytes(1 << 16)),
        (b"Transfer-Encoding: chunked\r\n", b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
        (b"Content-Length: 1000000000000\r\n", bytes(1 << 16)),
        (b"Content-Length: 0, 0\r\n", bytes(1 << 16)),
        (b"Content-Encoding: gzip\r\nConnection: close\r\n", bytes(1 << 16)),
    ],
)
def test_the_endless_body_of_a_redirect_is_not_read(headers: bytes, block: bytes, http: HttpSettings) -> None:
    def answer(path: str) -> Iterator[bytes]:
        if path == "/there":
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
        else:
            yield from endless_redirect(headers, block)

    with RawServer(answer) as server:
        assert read(http, server.base + "/here") == b"x"
        assert server.ended.acquire(timeout=60)
        assert server.sent < MOST / 2  # what the system holds back for a client that reads nothing is some MiB


def test_the_body_of_a_redirect_is_not_decoded(http: HttpSettings) -> None:
    bomb = zlib.compress(bytes(1 << 23))
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n"

    def answer(path: str) -> Iterator[bytes]:
        there = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
        yield there if path == "/there" else moved % len(bomb) + bomb

    with RawServer(answer) as server, http.get(server.base + "/here", {}) as response:
        assert b"".join(body(response)) == b"x"
        assert [hop.content for hop in response.history] == [b""]
        assert server.connections == 1  # its few bytes were read, so the connection could be used again


def test_cookies_of_a_mirror_are_not_kept(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("a", b"x")
    mirror.misbehave("*", Fault(headers={"Set-Cookie": "who=you"}))
    read(http, mirror.url("a"))
    read(http, mirror.url("a"))
    assert "cookie" not in mirror.requests[1].headers


def test_https_is_not_left_for_http(mirror: LoopbackMirror, certificate: tuple[Path, Path], http: HttpSettings) -> None:
    mirror.add("a", b"x")
    with LoopbackMirror(certificate=certificate) as safe:
        safe.misbehave("*", Fault(redirect=mirror.url("a")))
        with pytest.raises(Unreachable, match="which is not https"):
            HttpSettings(ca_bundle=certificate[0]).get(safe.url("a"), {})
    assert mirror.requests == []


def test_this_machine_is_not_left_for_plain_http(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(redirect="http://a.invalid/x"))
    with pytest.raises(Unreachable, match=r"redirects to http://a\.invalid/x, which is not https"):
        http.get(mirror.url("a"), {})


def test_a_certificate_that_nobody_trusts_is_refused(certificate: tuple[Path, Path], http: HttpSettings) -> None:
    with LoopbackMirror(certificate=certificate) as safe:
        with pytest.raises(Unreachable, match="TLS certificate or connection that cannot be trusted"):
            http.get(safe.url("a"), {})
        assert safe.requests == []


def test_a_bundle_of_ones_own_is_trusted(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with LoopbackMirror(certificate=certificate) as safe:
        safe.add("a", b"x")
        assert read(HttpSettings(ca_bundle=certificate[0]), safe.url("a")) == b"x"
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(certificate[0]))
                assert read(HttpSettings(), safe.url("a")) == b"x"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))  # the settings win
        assert read(HttpSettings(ca_bundle=certificate[0]), safe.url("a")) == b"x"


def test_a_bundle_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(MirrorError, match=r"none\.pem named by SSL_CERT_FILE is not there"):
        HttpSettings().session()


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=0.05)])
def test_headers_that_never_come_are_given_up(mirror: LoopbackMirror, http: HttpSettings, fault: Fault) -> None:
    mirror.misbehave("*", fault)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        http.get(mirror.url("a"), {}, within=0.5)
    assert caught.value.retry == "later"
    mirror.misbehave("*", None)
    mirror.add("a", b"x")
    assert read(http, mirror.url("a")) == b"x"


def continuing(_: str) -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


def dripping(_: str) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-Slow: "
    while True:
        threading.Event().wait(0.02)
        yield b"x"


@pytest.mark.parametrize("answer", [continuing, dripping])
@pytest.mark.parametrize("safe", [False, True])
def test_a_request_that_is_given_up_ends(answer: Handler, safe: bool, certificate: tuple[Path, Path]) -> None:
    http = HttpSettings(ca_bundle=certificate[0])
    with RawServer(answer, certificate if safe else None) as server:
        before = set(threading.enumerate())
        with pytest.raises(Unreachable, match="does not answer"):
            http.get(server.base, {}, within=0.5)
        assert server.ended.acquire(timeout=60)
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
            assert not thread.is_alive()


def test_a_request_on_a_kept_connection_ends_when_it_is_given_up(http: HttpSettings) -> None:
    def answer(path: str) -> Iterator[bytes]:
        return dripping(path) if path == "/slow" else iter([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"])

    with RawServer(answer) as server:
        assert read(http, server.base + "/fast") == b"x"
        with pytest.raises(Unreachable, match="does not answer"):
            http.get(server.base + "/slow", {}, within=0.5)
        assert server.ended.acquire(timeout=60)
        assert server.connections == 1
        assert read(http, server.base + "/fast") == b"x"


def test_a_request_that_is_given_up_after_a_redirect_ends(http: HttpSettings) -> None:
    with RawServer(dripping) as slow:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {slow.base}\r\nContent-Length: 0\r\n\r\n".encode()
        with RawServer(lambda _: iter([moved])) as server:
            with pytest.raises(Unreachable, match="does not answer"):
                http.get(server.base, {}, within=0.5)
            assert slow.ended.acquire(timeout=60)


def test_a_request_that_is_interrupted_ends(http: HttpSettings) -> None:
    interrupt = Interrupt()

    def answer(path: str) -> Iterator[bytes]:
        interrupt.cut()
        return dripping(path)

    with RawServer(answer) as server:
        with pytest.raises(Interrupted):
            http.get(server.base, {}, interrupt=interrupt)
        assert server.ended.acquire(timeout=60)
        with pytest.raises(Interrupted):
            http.get(server.base, {}, interrupt=interrupt)
        assert len(server.requests) == 1


def test_a_refused_connection_may_be_tried_again(http: HttpSettings) -> None:
    with LoopbackMirror() as gone:
        url = gone.url("a")
    with pytest.raises(Unreachable, match="refuses connections") as caught:
        http.get(url, {})
    assert caught.value.retry == "now"


def test_a_name_that_does_not_resolve_is_said_so(http: HttpSettings) -> None:
    with pytest.raises(Unreachable, match="host name that does not resolve"):
        http.get("https://nothing.invalid/simple", {})


def test_a_proxy_that_refuses_is_said_so_without_its_password() -> None:
    with LoopbackMirror() as gone:
        proxy = gone.base.replace("http://", "http://me:secret@")
    http = HttpSettings(proxies={"http": proxy, "https": proxy})
    with pytest.raises(Unreachable, match="through the proxy that is set") as caught:
        http.get("https://a.invalid/x", {})
    assert "secret" not in str(caught.value)


def test_the_proxy_of_the_environment_is_asked(mirror: LoopbackMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", mirror.base)
    with HttpSettings().get("http://a.invalid/files/x", {}) as response:
        assert response.status_code == 404
    assert len(mirror.requests) == 1


def test_a_body_that_ends_early_is_said_so(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("a", b"x" * 1000)
    mirror.misbehave("*", Fault(truncate=10))
    with pytest.raises(Unreachable, match="ends the body before its announced length"):
        read(http, mirror.url("a"))


def test_no_secret_is_in_an_error(http: HttpSettings) -> None:
    with LoopbackMirror() as gone:
        url = gone.url("a").replace("http://", "http://me:secret@") + "?token=secret"
    with pytest.raises(Unreachable) as caught:
        http.get(url, {})
    assert "secret" not in str(caught.value) + caught.value.reason


def test_each_thread_has_its_session(http: HttpSettings) -> None:
    sessions = [http.session(), http.session()]
    thread = threading.Thread(target=lambda: sessions.append(http.session()))
    thread.start()
    thread.join()
    assert sessions[0] is sessions[1]
    assert sessions[2] is not sessions[0]


@pytest.mark.parametrize(
    ("url", "local"), [("http://127.9.9.9/", True), ("http://[::1]/", True), ("http://10.0.0.1", False)]
)
def test_loopback_is_this_machine_only(url: str, local: bool) -> None:
    assert is_loopback(url) is local


@pytest.mark.parametrize(("value", "expected"), [("7", 7.0), ("", None), ("soon", None), ("9" * 30, None)])
def test_retry_after_in_seconds(value: str, expected: float | None) -> None:
    response = requests.Response()
    response.headers["Retry-After"] = value
    assert retry_after(response) == expected


def test_retry_after_as_a_date_that_has_passed() -> None:
    response = requests.Response()
    response.headers["Retry-After"] = formatdate(0, usegmt=True)
    assert retry_after(response) == 0
