"""URLs as people may see them, and the one question that we ask of their hosts. Pure text."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit


def shown(url: str) -> str:
    """A URL for people and logs: no user, no password, no query (signed addresses carry their key there)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return redact(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact(text: str) -> str:
    """Free text without the credentials of any URL in it, or of an address that begins it (user:password@host:port)."""
    return re.sub(r"(://|^)[^/\s]*@", r"\1***@", text)


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host(url: str) -> str:
    """Who is asked: host and port, without credentials. Two URLs with the same one are the same mirror."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()
