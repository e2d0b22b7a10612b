"""HTTP as this tool speaks it: one way to make a session, one way to ask, and one sentence for each failure.

TLS verification is always on, https is never left for http, at most five redirects are followed, credentials stay with
the host that they are for, and no message shows them. Knows nothing of indexes or files.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

import requests
from requests import exceptions as failures
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import IncompleteRead, NameResolutionError, ReadTimeoutError

from mirrors import dial
from mirrors.credentials import Bearer, Credentials
from mirrors.errors import MirrorError, Unreachable
from mirrors.interrupt import Interrupt, Interrupted
from mirrors.line import Line
from mirrors.urls import is_loopback, redact, shown

MAX_REDIRECTS = 5
_SMALL = 1 << 14  # bytes; the body of a redirect that is read to its end, so that the connection can be used again
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def installer_user_agent() -> str:
    """How we introduce ourselves: as the installer that will come after us, then by our own name.

    A mirror may refuse one installer and serve another, so a probe that did not look like uv would measure nothing.
    """
    return f"uv/{_version('uv')} i2v-setup/{_version('i2v-setup')}"


@dataclass(frozen=True, eq=False)
class HttpSettings:
    """What every request of a run has in common.

    Attributes:
        user_agent: sent as it is.
        ca_bundle: PEM file of trusted certificates; None: what the environment names, else the built-in ones.
        proxies: by scheme, as in requests; None: what the environment says.
        connect_timeout: seconds until a connection stands.
        read_timeout: seconds without a single byte.
        response_timeout: seconds until the headers of an answer are there, name resolution and redirects included.
        bearer: a token for one host; it does not follow a redirect there from anywhere else.
    """

    user_agent: str = field(default_factory=installer_user_agent)
    ca_bundle: Path | None = None
    proxies: Mapping[str, str] | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 15.0
    response_timeout: float = 15.0
    bearer: Bearer | None = field(default=None, repr=False)
    _local: threading.local = field(default_factory=threading.local, init=False, repr=False)
    _adapter: dial.Adapter = field(default_factory=dial.shared_adapter, init=False, repr=False)

    def session(self) -> requests.Session:
        """This thread's session. The kept-alive connections are all threads': what one has warmed up another uses.

        Raises:
            MirrorError: the certificate bundle is not there.
        """
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session(self)
        return session

    def forget_session(self) -> None:
        """Let this thread begin anew: a request that we gave up may still be using the old session."""
        self._local.session = None

    def get(
        self, url: str, headers: Mapping[str, str], within: float | None = None, interrupt: Interrupt | None = None
    ) -> requests.Response:
        """The response to a GET, its body unread. Close it.

        requests' own timeouts are for one read, so a server that drips its headers, or a name server that
        never answers, would pass them. Here the whole way to the headers is bounded: by `within` seconds, else by
        `response_timeout`. The thread that this takes costs 0.3 ms. Another thread can end the wait by `interrupt`.
        A request that is given up ends: its connection is shut down, and with that its thread.

        Raises:
            Unreachable: no answer, or one that must not be followed.
            Interrupted: by `interrupt`.
        """
        limit = self.response_timeout if within is None else within
        session = self.session()
        timeouts = (min(self.connect_timeout, limit), min(self.read_timeout, limit))
        outcome, line = _Outcome(), Line()

        def ask() -> None:
            line.follow()
            try:
                outcome.put(session.get(url, headers=dict(headers), timeout=timeouts, stream=True))
            except Exception as error:  # noqa: BLE001  # raised again below, in the thread that asked
                outcome.put(error)

        answer = None
        try:
            with (interrupt or Interrupt()).ends(lambda: outcome.put(Interrupted())):
                threading.Thread(target=ask, name="i2v-http", daemon=True).start()
                answer = outcome.get(limit)
        finally:
            if answer is None or isinstance(answer, Interrupted):
                self.forget_session()
                line.hang_up()
            line.let_go()
        if answer is None:
            raise Unreachable(shown(url), f"does not answer within {limit:.3g} s", "later")
        if isinstance(answer, MirrorError):
            raise answer
        if isinstance(answer, (requests.RequestException, Urllib3Error, OSError, ValueError)):
            raise unreachable(url, answer) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Outcome:
    """What one thread gives another. A response that comes too late for that is closed."""

    def __init__(self) -> None:
        self._given = threading.Condition()
        self._value: requests.Response | Exception | None = None
        self._over = False

    def put(self, value: requests.Response | Exception) -> None:
        with self._given:
            late = self._over or self._value is not None
            if not late:
                self._value = value
                self._given.notify_all()
        if late and isinstance(value, requests.Response):
            value.close()

    def get(self, limit: float) -> requests.Response | Exception | None:
        with self._given:
            try:
                self._given.wait_for(lambda: self._value is not None, limit)
            finally:
                self._over = True
            return self._value


def body(response: requests.Response, *, decode: bool = False, block: int = 1 << 18) -> Iterator[bytes]:
    """The body as it comes in: a block is what one read of the socket gave, so a slow sender is seen at once.

    `decode` undoes a Content-Encoding; a file is wanted as it was sent.

    Raises:
        Unreachable: the connection broke, or the body ended before its announced length.
    """
    try:
        while data := response.raw.read1(block, decode_content=decode):
            yield data
    except (Urllib3Error, OSError, ValueError) as error:
        raise unreachable(response.url, error) from None


def unreachable(url: str, error: BaseException) -> Unreachable:
    """What went wrong with a request, in words, without what may be secret."""
    causes = list(_causes(error))
    for kinds, reason, retry in _REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return Unreachable(shown(url), reason.format(cause=redact(_words(causes[-1]))), retry)
    return Unreachable(shown(url), f"cannot be reached: {redact(_words(causes[-1]))}", "now")


def retry_after(response: requests.Response) -> float | None:
    """The seconds that a server asks us to wait, if it does so in seconds or by a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class _Session(requests.Session):
    """A session that keeps our rules, whatever a server or the environment says."""

    def __init__(self, settings: HttpSettings) -> None:
        super().__init__()
        self.max_redirects = MAX_REDIRECTS
        self.verify = _ca_bundle(settings)
        self.headers.update({"User-Agent": settings.user_agent, "Accept-Encoding": "identity"})
        self.auth = Credentials(settings.bearer)
        self._auth_after_redirect = Credentials()  # whoever sends us on does not decide where a token goes
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._given_proxies = settings.proxies
        for scheme in ("https://", "http://"):
            self.mount(scheme, settings._adapter)

    def close(self) -> None:
        """The connections are not this session's alone; they end with the settings."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """As requests does, but the settings win over the environment, and nothing switches verification off."""
        merged = dict(super().merge_environment_settings(url, proxies, stream, verify, cert))
        merged["verify"] = self.verify
        if self._given_proxies is not None:
            merged["proxies"] = self._proxies_for(url)
        return merged

    def rebuild_proxies(self, prepared_request: Any, proxies: Any) -> Any:
        """After a redirect too, proxies that were given win over the environment."""
        if self._given_proxies is not None:
            return self._proxies_for(prepared_request.url)
        return super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]

    def _proxies_for(self, url: str) -> dict[str, str]:
        bypassed = requests.utils.should_bypass_proxies(url, no_proxy=None)
        return {} if bypassed else dict(self._given_proxies or {})

    def rebuild_auth(self, prepared_request: Any, response: requests.Response) -> None:
        """After a redirect to another host, credentials stay behind; those that are for the new one may be added."""
        if self.should_strip_auth(response.request.url, prepared_request.url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)
        prepared_request.prepare_auth(self._auth_after_redirect)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where the answer sends us, unless that would leave https, or this machine for plain http.

        requests would read the answer's body whole and decoded, whatever its size: it finds none any more.
        """
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        absolute = urljoin(resp.url, target)
        both_local = is_loopback(resp.url) and is_loopback(absolute) and resp.url.startswith("http:")
        if not absolute.lower().startswith("https:") and not both_local:
            resp.close()
            raise Unreachable(shown(resp.url), f"redirects to {shown(absolute)}, which is not https")
        _finish(resp)
        return target


def _finish(redirect: requests.Response) -> None:
    """Have done with the body: read what little there is, or hang up."""
    length = redirect.raw.length_remaining
    try:
        if length is not None and length <= _SMALL:
            redirect.raw.read(_SMALL, decode_content=False)
    except (Urllib3Error, OSError, ValueError):
        pass  # it broke off: nothing is lost
    redirect.raw.close()


def _ca_bundle(settings: HttpSettings) -> str | bool:
    named = [("the settings", settings.ca_bundle)]
    named += [(name, Path(os.environ[name])) for name in CA_VARIABLES if os.environ.get(name)]
    for origin, path in named:
        if path is None:
            continue
        if not path.exists():
            raise MirrorError(
                f"the certificate bundle {path} named by {origin} is not there", "name a PEM file that exists, or none"
            )
        return str(path)
    return True


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "0"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first: through chaining, urllib3's `reason` and wrapped arguments."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
        error = inner or error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.args[-1] if error.args else error)
    return text.rpartition("Error: ")[2].strip(" .") or type(error).__name__


# The first that fits: kinds of failure, the rest of a sentence about the server, when to try again.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str, Literal["now", "later", "never"]], ...] = (
    ((failures.ProxyError,), "cannot be reached through the proxy that is set: {cause}", "never"),
    ((ssl.SSLError, failures.SSLError), "has a TLS certificate or connection that cannot be trusted: {cause}", "never"),
    ((NameResolutionError, socket.gaierror), "has a host name that does not resolve", "later"),
    ((failures.TooManyRedirects,), f"redirects more than {MAX_REDIRECTS} times", "never"),
    ((failures.Timeout, ReadTimeoutError, TimeoutError), "does not answer in time", "later"),
    ((ConnectionRefusedError,), "refuses connections", "now"),
    ((IncompleteRead,), "ends the body before its announced length", "now"),
    (
        (failures.InvalidURL, failures.InvalidSchema, failures.MissingSchema),
        "is not a URL that can be fetched",
        "never",
    ),
)
