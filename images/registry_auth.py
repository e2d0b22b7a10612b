"""What `Authorization` says to one registry: a password, or a token that its token server gives for the password.

The registry's first "401" says which. A token is for certain repositories and actions (its scopes), is asked for once
and shared by all threads until it ends or is refused.

    https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from images.calls import pause
from images.errors import ImageError
from images.references import Reference
from images.registry_errors import RegistryError
from images.registry_http import Answer, Client
from images.registry_login import Login, login_for
from mirrors.urls import may_link, shown

_CLIENT = "i2v-setup"
_SHORTEST = 60  # seconds that a token holds if nothing else is said, by the specification
_EARLY = 10  # seconds before its end at which a token is no longer used, or half its time if that is less
_MOST_BYTES = 1 << 20
_TRIES = 3
_DENIED = (400, 401, 403)
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Challenge:
    """How a registry wants to be told who asks: `scheme` is "bearer" or "basic"."""

    scheme: str
    realm: str = ""
    service: str = ""


@dataclass(frozen=True)
class _Token:
    header: str = field(repr=False)
    ends: float  # on the monotonic clock


def read_challenge(header: str) -> Challenge | None:
    """The better of the ways that a `WWW-Authenticate` names; None if it names none that we know."""
    for scheme in ("bearer", "basic"):
        if found := re.search(rf"(?:^|[,\s]){scheme}(?=\s|$)", header, re.IGNORECASE):
            parameters: dict[str, str] = {}
            for name, quoted, bare in _PARAMETER.findall(header[found.end() :]):
                parameters.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or bare)
            return Challenge(scheme, parameters.get("realm", ""), parameters.get("service", ""))
    return None


class Authorization:
    """For the requests to one registry that need certain scopes, the first of them above all. For all threads."""

    def __init__(self, reference: Reference, scopes: Sequence[str], client: Client) -> None:
        self._reference = reference
        self._scopes = tuple(scopes)
        self._client = client
        self._challenge: Challenge | None = None
        self._token: _Token | None = None
        self._lock = threading.Lock()

    def challenged(self, url: str, header: str) -> None:
        """The registry refused a request to `url`, and says so what it wants.

        Raises:
            ImageError: That is nothing that we can do, or nothing that we should.
        """
        challenge = read_challenge(header)
        if challenge is None:
            raise ImageError(f"{self._reference.host} wants a kind of login that is not known here")
        if challenge.scheme == "bearer" and not may_link(url, challenge.realm):
            raise ImageError(
                f"{self._reference.host} has tokens given by {shown(challenge.realm) or 'nobody'}, which is not https"
            )
        self._challenge = challenge

    def header(self, stale: str = "") -> str:
        """What to send; "" as long as the registry has asked for nothing.

        Args:
            stale: what was sent, and refused; the same is given again only if there is nothing else.

        Raises:
            ImageError: There is no login where one is needed, or it is refused.
        """
        with self._lock:
            challenge, token = self._challenge, self._token
            if challenge is None:
                return ""
            if challenge.scheme == "basic":
                return _basic(self._needed_login())
            if token is None or token.header == stale or time.monotonic() >= token.ends:
                token = self._token = self._fetch(challenge)
            return token.header

    def _needed_login(self) -> Login:
        login = login_for(self._reference.host)
        if login is None or not login.name:
            host = self._reference.host
            raise ImageError(f"{host} wants a name and a password", f"log in first: docker login {host}")
        return login

    def _fetch(self, challenge: Challenge) -> _Token:
        began = time.monotonic()
        with self._ask(challenge, login_for(self._reference.host)) as answer:
            if answer.status in _DENIED and len(self._scopes) > 1:
                # Some give no token at all if one of the repositories may not be read. Only the first is needed.
                self._scopes = self._scopes[:1]
                return self._fetch(challenge)
            if answer.status != 200:
                raise self._refused(answer.status)
            content = answer.content(_MOST_BYTES)
        try:
            document: dict[str, Any] = json.loads(content)
            text = str(document.get("token") or document["access_token"])
            seconds = float(document.get("expires_in") or _SHORTEST)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ImageError(f"the token server of {self._reference.host} gives no token") from None
        return _Token(f"Bearer {text}", began + max(seconds - _EARLY, seconds / 2))

    def _ask(self, challenge: Challenge, login: Login | None) -> Answer:
        for wait in (*(2.0**tried for tried in range(_TRIES - 1)), None):
            try:
                answer = self._ask_once(challenge, login)
            except RegistryError as error:
                if wait is None or not error.passes:
                    raise
            else:
                if wait is None or (answer.status != 429 and answer.status < 500):
                    return answer
                answer.close()
            pause(wait)
        raise AssertionError("the last try ends it")

    def _ask_once(self, challenge: Challenge, login: Login | None) -> Answer:
        if login and not login.name:
            form = {"grant_type": "refresh_token", "refresh_token": login.secret, "client_id": _CLIENT}
            form |= {"service": challenge.service, "scope": " ".join(self._scopes)}
            return self._client.ask("POST", challenge.realm, {}, form)
        wanted = [("service", challenge.service)] if challenge.service else []
        wanted += [("scope", scope) for scope in self._scopes]
        mark = "&" if "?" in challenge.realm else "?"
        return self._client.ask(
            "GET", f"{challenge.realm}{mark}{urlencode(wanted)}", {}, authorization=_basic(login) if login else ""
        )

    def _refused(self, status: int) -> ImageError:
        host = self._reference.host
        if status in _DENIED:
            return ImageError(
                f"{host} does not let you in: {status} from its token server",
                f"the password may be wrong or a token out of date; log in again: docker login {host}",
            )
        return ImageError(f"the token server of {host} answers {status}", "try again later")


def _basic(login: Login) -> str:
    """As HTTP wants a name and a password."""
    return f"Basic {base64.b64encode(f'{login.name}:{login.secret}'.encode()).decode()}"
