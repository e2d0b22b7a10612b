"""Connections to hosts with several addresses: a dead one among them costs a quarter of a second, not the request.

A host's addresses are tried in turn, IPv6 and IPv4 alternating, the next one after 0.25 s or as soon as the one before
failed; the first connection that stands wins and the others are closed (RFC 8305, "Happy Eyeballs", without its
separate look-ups by family). The time limit is for all of it, the name's resolution included, where urllib3 would
allow it to each address anew. A proxy's own address is dialled in the same way. Knows nothing of HTTP beyond where
urllib3 opens its connections.
"""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import sys
import threading
import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError

from mirrors import line

NEXT_AFTER = 0.25  # seconds; RFC 8305, section 5: the recommended Connection Attempt Delay
_HOSTS, _IDLE = 64, 32  # pools, and idle connections in each, that are kept
_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)
_NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # says more of this machine than of the host

Options = Sequence[tuple[int, int, int | bytes]]
_Address = tuple[socket.AddressFamily, Any]  # what socket.connect takes


class Adapter(HTTPAdapter):
    """requests' way to the network, with the connections of this module."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As requests does."""
        super().init_poolmanager(*args, **kwargs)
        _use_ours(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """As requests does; a SOCKS proxy connects in its own way."""
        manager = super().proxy_manager_for(*args, **kwargs)
        if isinstance(manager, ProxyManager):
            _use_ours(manager)
        return manager


def shared_adapter() -> Adapter:
    """An adapter whose pools keep enough connections for many threads and hosts."""
    return Adapter(pool_connections=_HOSTS, pool_maxsize=_IDLE)


def connect(host: str, port: int, timeout: float | None, options: Options = ()) -> socket.socket:
    """A TCP connection to the address of the host that answers first.

    Args:
        host: a name or an address.
        port: the port.
        timeout: seconds until it must stand, resolution included; later each read and write of it may take as long.
        options: for setsockopt.

    Raises:
        socket.gaierror: the name does not resolve, or not in time.
        TimeoutError: no address answered in time.
        OSError: all addresses failed; it is the most telling of their failures.
    """
    end = None if timeout is None else time.monotonic() + timeout
    with _Race(_alternating(_resolved(host, port, timeout)), options, end) as race:
        connection = race.winner()
    connection.settimeout(timeout)
    return connection


def _resolved(host: str, port: int, timeout: float | None) -> list[_Address]:
    """The host's addresses, in the system's order of preference. A look-up that hangs is left behind."""
    answer: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001  # raised again below, in the thread that asked
            answer.put(error)

    threading.Thread(target=ask, name="i2v-resolve", daemon=True).start()
    try:
        found = answer.get(timeout=timeout)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_AGAIN, f"no name server answers within {timeout:.3g} s") from None
    if isinstance(found, Exception):
        raise found
    return [(family, address) for family, _, _, _, address in found]


def _alternating(addresses: Sequence[_Address]) -> list[_Address]:
    """One address of the preferred family, one of the other, and so on; each family in its own order."""
    preferred = [it for it in addresses if it[0] == addresses[0][0]]
    others = [it for it in addresses if it[0] != addresses[0][0]]
    return [it for pair in zip_longest(preferred, others) for it in pair if it is not None]


class _Race:
    """Connections under way to several addresses. Leaving the block closes all of them but the winner."""

    def __init__(self, addresses: Sequence[_Address], options: Options, end: float | None) -> None:
        self._waiting = list(addresses)
        self._options = options
        self._end = end
        self._next = time.monotonic()  # when the next address has its turn
        self._failures: list[OSError] = []
        self._running: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for loser in self._running:
            loser.close()

    def winner(self) -> socket.socket:
        while self._waiting or self._running:
            now = time.monotonic()
            if self._end is not None and now >= self._end:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if self._waiting and (now >= self._next or not self._running):
                self._next = now + NEXT_AFTER
                self._start(*self._waiting.pop(0))
                continue
            for key, _ in self._selector.select(self._patience(now)):
                connection: socket.socket = key.data
                if self._stands(connection):
                    return connection
        raise self._telling()

    def _start(self, family: socket.AddressFamily, address: Any) -> None:
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a family that this machine does not have
            self._failures.append(error)
            return
        self._running.add(connection)
        connection.setblocking(False)
        for option in self._options:
            connection.setsockopt(*option)
        code = connection.connect_ex(address)
        if code in _UNDER_WAY:
            self._selector.register(connection, selectors.EVENT_WRITE, connection)
        else:
            self._lost(connection, code)

    def _stands(self, connection: socket.socket) -> bool:
        self._selector.unregister(connection)
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lost(connection, code)
            return False
        self._running.remove(connection)
        return True

    def _lost(self, connection: socket.socket, code: int) -> None:
        self._running.remove(connection)
        connection.close()
        self._failures.append(OSError(code, os.strerror(code)))
        self._next = time.monotonic()

    def _patience(self, now: float) -> float | None:
        """Seconds until something is to be done even if no connection changes."""
        ends = [end for end in (self._end, self._next if self._waiting else None) if end is not None]
        return max(0.0, min(ends) - now) if ends else None

    def _telling(self) -> OSError:
        telling = (failure for failure in self._failures if failure.errno not in _NO_ROUTE)
        return next(telling, self._failures[0])


class _Dialling(HTTPConnection):
    """A connection of urllib3 that is opened by `connect`, with urllib3's own errors."""

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        try:
            connection = connect(self._dns_host.strip("[]"), self.port, timeout, self.socket_options or ())
        except UnicodeError as error:
            raise LocationParseError(f"{self.host!r}, label empty or too long") from error
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} within {timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error
        sys.audit("http.client.connect", self, self.host, self.port)
        line.hold(connection)
        return connection

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """As urllib3 does; a kept connection belongs to this request from now on."""
        if self.sock is not None:
            line.hold(self.sock)
        super().putrequest(*args, **kwargs)


class _DiallingTls(_Dialling, HTTPSConnection):
    """The same, and then TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Dialling

    def _put_conn(self, conn: Any) -> None:
        line.let_go()  # first: the next request may take it at once
        super()._put_conn(conn)


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _DiallingTls


def _use_ours(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
