"""A server on 127.0.0.1 that answers with any bytes, and knows how much of them was taken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

MOST = 1 << 26  # bytes that an endless answer has, so that a client that takes all of them comes to an end too
Handler = Callable[[str], Iterator[bytes]]


class RawServer:
    """For each request `answer` is called with its path, and what it yields is sent. It lives as long as the block.

    Attributes:
        requests: their heads, in order.
        connections: how many there were.
        sent: the bytes that the system took from us; it holds back some that no client has read.
        ended: acquired once for each connection that is over.
    """

    def __init__(self, answer: Handler, certificate: tuple[Path, Path] | None = None) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self.sent = 0
        self.ended = threading.Semaphore(0)
        self._answer = answer
        self._tls = SSLContext(PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls and certificate:
            self._tls.load_cert_chain(*certificate)
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def base(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError):
            connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            self._open.add(connection)
            with connection:
                while head := self._head(connection):
                    self.requests.append(head)
                    for block in self._answer(head.split()[1]):
                        connection.sendall(block)
                        self.sent += len(block)
        self.ended.release()

    @staticmethod
    def _head(connection: socket.socket) -> str:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            block = connection.recv(1 << 16)
            if not block:
                return ""
            head += block
        return head.decode("latin-1")
