"""Which name and password or token a request carries.

Those in its own URL; else the token that was given for its host; else what the netrc file has for exactly that host.

The netrc file's `default` entry is for hosts that its owner chose to ask. A mirror is chosen by us, so it never
gets that one.
"""

from __future__ import annotations

import netrc
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url

from mirrors.urls import host

_FILES = ("~/.netrc", "~/_netrc")  # the first that is there; $NETRC names another
_DEFAULT = "default"  # the name under which `netrc` keeps that entry


@dataclass(frozen=True)
class Bearer:
    """A token, and the one host (and port) that it is for; it is sent by https only."""

    host: str
    token: str = field(repr=False)


class Credentials(AuthBase):
    """Adds them to a request, if there are any and it has none yet."""

    def __init__(self, bearer: Bearer | None = None) -> None:
        self._bearer = bearer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The same request."""
        url = request.url or ""
        own: tuple[str, str] = get_auth_from_url(url)
        if not any(own) and self._is_for(url):
            assert self._bearer is not None
            request.headers.setdefault("Authorization", f"Bearer {self._bearer.token}")
        found = own if any(own) else _of_netrc(urlsplit(url).hostname)
        if found is not None and "Authorization" not in request.headers:
            HTTPBasicAuth(*found)(request)
        return request

    def _is_for(self, url: str) -> bool:
        return self._bearer is not None and urlsplit(url).scheme == "https" and host(url) == self._bearer.host


def _of_netrc(name: str | None) -> tuple[str, str] | None:
    """The name and the password for that host. A file that cannot be read has none, as everywhere."""
    named = os.environ.get("NETRC")
    paths = [Path(path).expanduser() for path in (_FILES if named is None else (named,))]
    path = next((path for path in paths if path.exists()), None)
    if path is None or name in (None, _DEFAULT):
        return None
    try:
        entry = netrc.netrc(str(path)).hosts.get(str(name))
    except (netrc.NetrcParseError, OSError, UnicodeError):
        return None
    return (entry[0] or entry[1] or "", entry[2] or "") if entry else None
