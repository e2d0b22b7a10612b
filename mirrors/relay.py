"""Addresses on this machine that stand for others: how a client reads a mirror's index without a way to the network.

The client asks 127.0.0.1; we ask the mirror, with our certificates, proxies, credentials and time limits. Nothing is
kept or checked here, so this is for indexes, whose contents nobody trusts anyway; packages come by way of the fetch.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import unquote, urlsplit

from mirrors.errors import MirrorError, Unreachable
from mirrors.http import HttpSettings, body
from mirrors.loopback_server import Handler, LoopbackServer
from mirrors.urls import shown

_ASKED = ("Range", "If-None-Match", "If-Modified-Since", "Accept")
_ANSWERED = ("Content-Type", "Content-Length", "Content-Range", "ETag", "Last-Modified", "Cache-Control")
_MOST_BYTES = 1 << 30  # of one file: the largest index that is published is below a quarter of that
_TRIES = 4  # for one file whose body breaks off


class Relay:
    """The addresses, as long as the `with` block lasts.

    Attributes:
        failures: by the mirror's address, what went wrong there last, as the rest of a sentence.
    """

    def __init__(self, http: HttpSettings, on_bytes: Callable[[int], None] | None = None) -> None:
        """Begin without any address.

        Args:
            http: how to ask.
            on_bytes: told of every block that came in, by any thread.
        """
        self.http = http
        self.on_bytes = on_bytes or (lambda _count: None)
        self.failures: dict[str, str] = {}
        self._targets: dict[str, str] = {}
        self._server = _Server(self)

    def __enter__(self) -> Relay:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def url(self, target: str) -> str:
        """The address on this machine below which `target` is; a directory of this machine needs none."""
        if target.startswith("file:"):
            return target
        # A solver shows the channel's name, so it stays the last part; no web page can guess what is before it.
        name = urlsplit(target).path.rpartition("/")[2]
        path = next((path for path, known in self._targets.items() if known == target), None)
        if path is None:
            path = f"{secrets.token_urlsafe(8)}/{name}"
            self._targets[path] = target
        return f"{self._server.base}/{path}"

    def target(self, path: str) -> tuple[str, str] | None:
        """The mirror's address that a path of ours is below, and what follows it."""
        first, _, rest = path.removeprefix("/").partition("/")
        name, _, rest = rest.partition("/")
        base = self._targets.get(f"{first}/{name}")
        return (base, rest) if base is not None and ".." not in unquote(rest).split("/") else None


class _Server(LoopbackServer):
    def __init__(self, relay: Relay) -> None:
        super().__init__(_Handler)
        self.relay = relay


class _Handler(Handler):
    server: _Server

    def answer(self) -> None:
        found = self.server.relay.target(self.path)
        if found is None:
            self.send_text(404, "not here")
            return
        base, rest = found
        try:
            self._pass_on(f"{base}/{rest}")
        except (Unreachable, MirrorError) as error:
            reason = error.reason if isinstance(error, Unreachable) else str(error)
            self.server.relay.failures[base] = reason
            if self.headers_sent:
                self.close_connection = True
            else:
                self.send_text(502, reason)

    def _pass_on(self, url: str) -> None:
        asked = {name: value for name in _ASKED if (value := self.headers.get(name)) is not None}
        if self.command == "HEAD":  # one byte tells as much, and every mirror is asked in the way that it is measured
            asked["Range"] = "bytes=0-0"
        with closing(self.server.relay.http.get(url, asked)) as answer:
            told = {name: value for name in _ANSWERED if (value := answer.headers.get(name)) is not None}
            status = answer.status_code
            if self.command == "HEAD" and status == 206:
                status, size = 200, told.pop("Content-Range", "").rpartition("/")[2]
                told["Content-Length"] = size if size.isdigit() else "0"
            if "Content-Length" not in told:
                self.close_connection = True
                told["Connection"] = "close"
            self.send_headers(status, told)
            if self.command == "HEAD" or status in (204, 304):
                return
            for block in self._whole(url, asked, answer):
                self.wfile.write(block)
                self.server.relay.on_bytes(len(block))

    def _whole(self, url: str, asked: dict[str, str], answer: Any) -> Iterator[bytes]:
        """The body; where it breaks off, the rest is asked for, as long as it is the same file."""
        had, tag = 0, answer.headers.get("ETag", "")
        resumable = answer.status_code == 200 and tag.startswith('"')
        for left in reversed(range(_TRIES)):
            with closing(answer):
                try:
                    for block in body(answer):
                        had += len(block)
                        if had > _MOST_BYTES:
                            raise Unreachable(shown(url), "sends an index without end", "later")
                        yield block
                except Unreachable as error:
                    if not resumable or not left or error.retry == "never" or had > _MOST_BYTES:
                        raise
                else:
                    return
            answer = self.server.relay.http.get(url, {**asked, "Range": f"bytes={had}-", "If-Range": tag})
            if answer.status_code != 206 or answer.headers.get("ETag") != tag:
                answer.close()
                raise Unreachable(shown(url), "changed its index while it was read")
