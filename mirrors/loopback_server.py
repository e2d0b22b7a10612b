"""A server that only this machine can ask, on a port of its own. Knows nothing of what it is asked for."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mirrors.urls import is_loopback

_TEXT = "text/plain; charset=utf-8"


class LoopbackServer(ThreadingHTTPServer):
    """Answers from `start` to `stop`, each connection in a thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[Handler]) -> None:
        """Take a port; nobody is answered yet."""
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def base(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and end the connections that stand."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As always, but known until its end, so that `server_close` lets go of idle connections too."""
        with self._lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)

    def server_close(self) -> None:
        """Listen no more, and end the connections that stand."""
        super().server_close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is nobody's fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection's requests: GET, and HEAD as the same without a body.

    Attributes:
        headers_sent: whether the answer has begun, so that what fails now cannot be told any more.
    """

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "i2v-setup", ""
    disable_nagle_algorithm = True  # or a body waits 40 ms for the client to acknowledge the headers
    headers_sent = False

    def do_GET(self) -> None:
        """Answer what is asked for."""
        self.headers_sent = False
        try:
            addressed = is_loopback(f"//{self.headers.get('Host', '')}")
        except ValueError:
            self.send_text(400, "no address")
            return
        # A page that is open in the user's browser could reach us under a name of its own (DNS rebinding).
        if addressed:
            self.answer()
        else:
            self.send_text(421, "ask for 127.0.0.1")

    def do_HEAD(self) -> None:
        """The same; what sends a body looks at `command`."""
        self.do_GET()

    def answer(self) -> None:
        """Answer a request that is meant for us."""
        raise NotImplementedError

    def send_text(self, status: int, text: str) -> None:
        """A short answer for people."""
        self.send(status, f"{text}\n".encode(), _TEXT)

    def send(self, status: int, body: bytes, type_: str) -> None:
        """A whole answer."""
        self.send_headers(status, {"Content-Type": type_, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """The beginning of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.headers_sent = True
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Quietly: whoever runs the server keeps what matters."""
