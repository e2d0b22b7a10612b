"""Who may speak to the server, and how much: Host, Origin, API key, body size; and the one shape of a refusal.

Pure ASGI, before any handler. A browser that was lured to a foreign page reaches this port under a foreign
Host (DNS rebinding) or with a foreign Origin (CSRF): both are refused. Knows nothing of videos.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.network import is_loopback

#: The page is its own files and nothing else: no inline code, no outside address, not inside a frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_GUARDED = ("/v1/", "/admin/")


class Refusal(Exception):
    """An answer other than what was asked for: its status, a code for programs and a message for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The one shape in which every error leaves the server."""
        body = json.dumps({"error": {"message": str(self), "code": self.code}}, ensure_ascii=False)
        return Response(body.encode(), self.status, self.headers, "application/json")


class ApiKey:
    """A secret that is compared and never kept: only its hash stays in memory."""

    def __init__(self, key: str) -> None:
        self._digest = _sha256(key)

    def opens(self, authorization: str) -> bool:
        """Whether this Authorization header holds the key. Takes the same time for every wrong one."""
        scheme, _, presented = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_sha256(presented.strip()), self._digest)


@dataclass(frozen=True)
class Rules:
    """What the guard checks.

    Attributes:
        max_body: In bytes.
        api_key: Needed below /v1/ and /admin/; None where nobody else can reach the server.
        loopback_only: Whether the server is reached under this machine's own names alone.
    """

    max_body: int
    api_key: ApiKey | None = field(default=None, repr=False)
    loopback_only: bool = True


class Guard:
    """The ASGI middleware that holds every request against the rules."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses the request, or passes it on with its body counted and the answer's headers set."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope["path"], Headers(scope=scope))
        except Refusal as refusal:
            await refusal.response()(scope, receive, _with_headers(send))
            return
        await self._app(scope, self._counted(receive), _with_headers(send))

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._rules.loopback_only and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise Refusal(421, "foreign_host", "this server answers to this machine's own names only")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Refusal(403, "foreign_origin", "pages of other sites may not use this server")
        key = self._rules.api_key
        if key and path.startswith(_GUARDED) and not key.opens(headers.get("authorization", "")):
            message = "this server needs its API key: Authorization: Bearer KEY"
            raise Refusal(401, "invalid_api_key", message, {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._rules.max_body:
            raise self._too_large()

    def _counted(self, receive: Receive) -> Receive:
        """Counts while the body comes: a length that was not told, or told wrongly, helps nobody."""
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._rules.max_body:
                raise self._too_large()
            return message

        return counting

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the request is larger than {self._rules.max_body // 1024**2} MiB")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
