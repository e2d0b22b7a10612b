"""One request to a registry, and its answer.

Proxies, certificates and redirects are those of `mirrors.http`; a registry on this machine is never asked through a
proxy. Knows no login: whoever asks gives the `Authorization` that goes with that one request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError as Urllib3Error

from images.calls import Call
from images.errors import ImageError
from images.registry_errors import RegistryError, unanswered
from mirrors.errors import MirrorError, Unreachable
from mirrors.http import HttpSettings, retry_after
from mirrors.http import body as body_of
from mirrors.interrupt import Interrupted
from mirrors.urls import is_loopback
from runtime import __version__

_BLOCK, _SMALL = 1 << 20, 1 << 14  # bytes


def settings(like: HttpSettings | None = None) -> HttpSettings:
    """How registries are asked: they may take minutes to put away what they were sent.

    Args:
        like: Whose certificates and proxies are used.
    """
    return replace(
        like or HttpSettings(),
        user_agent=f"i2v-setup/{__version__}",
        connect_timeout=10.0,
        read_timeout=60.0,
        response_timeout=300.0,
        bearer=None,
    )


class Body(Protocol):
    """What a request carries that is not in memory: its length is known before, and it can be sent again."""

    def __len__(self) -> int:
        """In bytes."""
        ...

    def __iter__(self) -> Iterator[memoryview]:
        """From its beginning."""
        ...


class Answer:
    """What a registry answered, its body unread. Close it, or use it in a `with`."""

    def __init__(self, call: Call, response: requests.Response) -> None:
        self._call = call
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.url = response.url

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_redirect(self) -> bool:
        """Whether it says where to ask instead."""
        return self._response.is_redirect

    @property
    def retry_after(self) -> float | None:
        """The seconds that it asks us to wait, if it does."""
        return retry_after(self._response)

    def pieces(self) -> Iterator[bytes]:
        """Its body, in pieces of at most 1 MiB.

        Raises:
            RegistryError: It broke off.
        """
        blocks = body_of(self._response, block=_BLOCK)
        while True:
            try:
                # In the request's own context: what is let go of at the body's end is its line and no other.
                block = self._call.context.run(next, blocks, None)
            except Unreachable as error:
                raise unanswered(self.url, error) from None
            if block is None:
                return
            yield block

    def content(self, most: int) -> bytes:
        """The body, but not more than `most` bytes of it."""
        found = bytearray()
        for piece in self.pieces():
            found += piece
            if len(found) >= most:
                break
        return bytes(found[:most])

    def close(self) -> None:
        """Have done with it. What little is left is read, so that the connection can be used again."""
        self._call.context.run(self._finish)
        self._call.finish()

    def _finish(self) -> None:
        left = self._response.raw.length_remaining
        try:
            if left is not None and left <= _SMALL:
                self._response.raw.read(_SMALL, decode_content=False)
        except (Urllib3Error, OSError, ValueError):
            pass  # it broke off: nothing is lost
        self._response.close()


class Client:
    """Asks registries, and whomever they send us to."""

    def __init__(self, http: HttpSettings) -> None:
        self._outside = http
        self._here = replace(http, proxies={})

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | bytes | Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> Answer:
        """The answer, which may be a redirect. Close it.

        Args:
            method: as HTTP calls it.
            url: whom to ask.
            headers: without `Authorization`.
            body: bytes, or the fields of a form.
            authorization: what `Authorization` is to say.

        Raises:
            RegistryError: No answer came.
            ImageError: The certificate bundle that the environment names is not there.
        """
        http = self._here if is_loopback(url) else self._outside
        # The first limits each piece that is sent, too.
        timeouts = (
            (http.connect_timeout, http.read_timeout) if body is None else (http.read_timeout, http.response_timeout)
        )
        call = Call()
        try:
            ask: Callable[..., requests.Response] = http.session().request
            response = call.context.run(
                ask,
                method,
                url,
                headers=dict(headers),
                data=body,
                auth=_Authorization(authorization),
                timeout=timeouts,
                stream=True,
                allow_redirects=False,
            )
        except BaseException as error:  # noqa: BLE001  # raised again, in words where it has to do with the network
            call.finish()
            raise self._explained(url, error) from None
        return Answer(call, response)

    @staticmethod
    def _explained(url: str, error: BaseException) -> BaseException:
        if isinstance(error, (RegistryError, Interrupted)):
            return error
        if isinstance(error, (Unreachable, requests.RequestException, Urllib3Error, OSError, ValueError)):
            return unanswered(url, error)
        return ImageError(str(error), error.hint) if isinstance(error, MirrorError) else error


class _Authorization(AuthBase):
    """Exactly what was given, or nothing: not what a netrc file or a URL may hold."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The same request."""
        if self._value:
            request.headers["Authorization"] = self._value
        return request
