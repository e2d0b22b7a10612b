"""Connections to a host of several addresses, against real sockets; only the answer of the resolver is made up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from mirrors import dial
from mirrors.errors import Unreachable
from mirrors.http import HttpSettings, body
from tests.mirrors.loopback import LoopbackMirror

Resolve = Any


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.2 at which a connection hangs: its listener's queue is full, so the kernel drops what comes."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # some stand, the rest wait for ever
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        yield port


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Lets a name have these addresses."""
    real = socket.getaddrinfo

    def answers(name: str, addresses: Sequence[tuple[str, int]]) -> None:
        def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
            if host != name:
                return real(host, *args, **kwargs)
            families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address, _ in addresses]
            return [
                (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
                for family, address in zip(families, addresses, strict=True)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answers


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def refusing() -> tuple[str, int]:
    with listening() as listener:
        address: tuple[str, int] = listener.getsockname()
    return address


def test_an_address_that_hangs_does_not_hold_up_the_next_one(black_hole: int, resolve: Resolve) -> None:
    with listening() as good:
        resolve("host.example", [("127.0.0.2", black_hole), good.getsockname()])
        with dial.connect("host.example", 80, 30) as connection:
            assert connection.getpeername() == good.getsockname()


def test_a_request_gets_through_where_the_first_address_hangs(
    black_hole: int, resolve: Resolve, mirror: LoopbackMirror, http: HttpSettings
) -> None:
    mirror.add("a", b"bytes")
    port = int(mirror.base.rpartition(":")[2])
    resolve("mirror.example", [("127.0.0.2", black_hole), ("127.0.0.1", port)])
    with http.get("http://mirror.example/files/a", {}) as response:
        assert b"".join(body(response)) == b"bytes"
    assert len(mirror.requests) == 1


def test_a_proxy_gets_through_where_its_first_address_hangs(
    black_hole: int, resolve: Resolve, mirror: LoopbackMirror
) -> None:
    port = int(mirror.base.rpartition(":")[2])
    resolve("proxy.example", [("127.0.0.2", black_hole), ("127.0.0.1", port)])
    http = HttpSettings(proxies={"http": "http://proxy.example:3128"}, read_timeout=5.0, response_timeout=5.0)
    with http.get("http://a.invalid/files/x", {}) as response:
        assert response.status_code == 404
    assert len(mirror.requests) == 1


def test_families_take_turns_and_keep_their_own_order() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    addresses: list[Any] = [(six, "a"), (six, "b"), (six, "c"), (four, "d"), (four, "e")]
    assert [address for _, address in dial._alternating(addresses)] == ["a", "d", "b", "e", "c"]
    assert dial._alternating([]) == []


def test_the_next_address_is_tried_at_once_where_one_refuses(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 1e6)
    with listening() as good:
        resolve("host.example", [refusing(), good.getsockname()])
        with dial.connect("host.example", 80, 30) as connection:
            assert connection.getpeername() == good.getsockname()


def test_no_address_is_asked_while_the_first_one_answers(resolve: Resolve) -> None:
    with listening() as good, listening() as reserve:
        resolve("host.example", [good.getsockname(), reserve.getsockname()])
        dial.connect("host.example", 80, 30).close()
        reserve.setblocking(False)
        with pytest.raises(BlockingIOError):
            reserve.accept()


def test_the_loser_is_closed(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.0)
    with listening() as one, listening() as two:
        resolve("host.example", [one.getsockname(), two.getsockname()])
        with dial.connect("host.example", 80, 30) as connection:
            loser = two if connection.getpeername() == one.getsockname() else one
            loser.settimeout(0.2)
            try:
                peer, _ = loser.accept()
            except TimeoutError:
                return  # it lost before it was begun
            with peer:
                peer.settimeout(30)
                assert peer.recv(1) == b""


def test_where_all_refuse_that_is_said(resolve: Resolve) -> None:
    resolve("host.example", [refusing(), refusing()])
    with pytest.raises(ConnectionRefusedError):
        dial.connect("host.example", 80, 30)


def test_a_machine_without_the_family_hears_of_the_host_and_not_of_itself(resolve: Resolve) -> None:
    resolve("host.example", [("2001:db8::1", 9), refusing()])  # documentation only: no route leads there
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        dial.connect("host.example", 80, 2)


def test_addresses_that_all_hang_are_given_up(black_hole: int, resolve: Resolve, http: HttpSettings) -> None:
    resolve("host.example", [("127.0.0.2", black_hole)] * 3)
    with pytest.raises(TimeoutError):
        dial.connect("host.example", 80, 0.6)
    with pytest.raises(Unreachable, match="does not answer"):
        HttpSettings(connect_timeout=0.4).get("http://host.example/", {})


def test_a_name_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait())
    with pytest.raises(socket.gaierror, match="no name server answers"):
        dial.connect("host.example", 80, 0.2)
    with pytest.raises(Unreachable, match="host name that does not resolve"):
        HttpSettings(connect_timeout=0.2).get("http://host.example/", {})
    end.set()


def test_a_name_that_cannot_be_one_is_an_error_of_ours(http: HttpSettings) -> None:
    with pytest.raises(Unreachable):
        http.get(f"http://{'a' * 70}.example/", {})


def test_small_requests_are_not_held_back(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("a", b"bytes")
    with http.get(mirror.url("a"), {}) as response:
        connection = response.raw.connection.sock  # type: ignore[union-attr]
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.gettimeout() == http.read_timeout
        assert b"".join(body(response)) == b"bytes"


def test_a_kept_connection_is_used_again(mirror: LoopbackMirror, http: HttpSettings, resolve: Resolve) -> None:
    mirror.add("a", b"bytes")
    port = int(mirror.base.rpartition(":")[2])
    resolve("mirror.example", [("127.0.0.1", port)])
    for _ in range(2):
        with http.get("http://mirror.example/files/a", {}) as response:
            assert b"".join(body(response)) == b"bytes"
        resolve("mirror.example", [refusing()])  # a second connection would fail
    assert len(mirror.requests) == 2


def test_ipv6_is_asked_first_where_the_system_prefers_it(resolve: Resolve) -> None:
    try:
        six = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with six, listening() as four:
        resolve("host.example", [six.getsockname()[:2], four.getsockname()])
        with dial.connect("host.example", 80, 30) as connection:
            assert connection.family == socket.AF_INET6
        with dial.connect("::1", six.getsockname()[1], 30) as connection:
            assert connection.family == socket.AF_INET6
