"""Which name and password a request carries: those in its own URL, else what the netrc file has for exactly its host.

The netrc file's `default` entry is for hosts that its owner chose to ask. A mirror is chosen by us, so it never
gets that one.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url

_FILES = ("~/.netrc", "~/_netrc")  # the first that is there; $NETRC names another
_DEFAULT = "default"  # the name under which `netrc` keeps that entry


class Credentials(AuthBase):
    """Adds them to a request, if there are any and it has none yet."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The same request."""
        own: tuple[str, str] = get_auth_from_url(request.url or "")
        found = own if any(own) else _of_netrc(urlsplit(request.url or "").hostname)
        if found is not None and "Authorization" not in request.headers:
            HTTPBasicAuth(*found)(request)
        return request


def _of_netrc(host: str | None) -> tuple[str, str] | None:
    """The name and the password for that host. A file that cannot be read has none, as everywhere."""
    named = os.environ.get("NETRC")
    paths = [Path(path).expanduser() for path in (_FILES if named is None else (named,))]
    path = next((path for path in paths if path.exists()), None)
    if path is None or host in (None, _DEFAULT):
        return None
    try:
        entry = netrc.netrc(str(path)).hosts.get(str(host))
    except (netrc.NetrcParseError, OSError, UnicodeError):
        return None
    return (entry[0] or entry[1] or "", entry[2] or "") if entry else None
