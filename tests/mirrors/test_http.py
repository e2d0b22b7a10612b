"""The rules that every request keeps, against real servers."""

from __future__ import annotations

import threading
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from mirrors.errors import MirrorError, Unreachable
from mirrors.http import HttpSettings, body, installer_user_agent, retry_after
from mirrors.urls import is_loopback, redact, shown
from tests.mirrors.loopback import Fault, LoopbackMirror


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


def test_what_is_shown_has_no_secret() -> None:
    assert shown("https://me:pw@a.example/x?sig=1#f") == "https://a.example/x"
    assert redact("at https://me:p@w@a.example/x and http://b") == "at https://***@a.example/x and http://b"


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
