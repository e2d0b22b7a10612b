"""URLs as people may see them, and the one question that we ask of their hosts. Pure text."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

# A password with / ? # in it, which should have been written with %, makes what is before them look like host and port.
_AUTHORITY, _PATH = re.compile(r"[^/?#]*"), re.compile(r"[^?#]*")
_NAME = re.compile(r"([^:]*|\[.*\])(:\d*)?")
_HOST = re.compile(r"(|localhost|[^:]*\.[^:]*|\[.*\])(:\d*)?")  # a name that is hardly a user's


def shown(url: str) -> str:
    """A URL for people and logs: no user, no password, no query (signed addresses carry their key there)."""
    before, rest = _split(url)
    bare = before + rest[_end_of_user(before, rest) :]
    try:
        parts = urlsplit(bare)
    except ValueError:
        return re.split(r"[?#]", bare)[0]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def redact(text: str) -> str:
    """Free text without the credentials of any URL in it, or of an address that begins it (user:password@host:port)."""
    return re.sub(r"(?:://|^(?!\S*://))(?:(?!://)\S)+", _redacted, text)


def _redacted(found: re.Match[str]) -> str:
    before, rest = _split(found[0])
    end = _end_of_user(before, rest)
    return f"{before}***@{rest[end:]}" if end else found[0]


def _split(url: str) -> tuple[str, str]:
    """What is before the authority, and the rest."""
    scheme, mark, rest = url.partition("://")
    return (scheme + mark, rest) if mark else ("", url)


def _end_of_user(before: str, rest: str) -> int:
    """Where user and password end in what may be an authority and a path; 0: there are none.

    In doubt it is the last @: a path that is cut short does less harm than a password that is shown.
    """
    authority = _matched(_AUTHORITY, rest)
    _, user, name = authority.rpartition("@")
    if user and _NAME.fullmatch(name):
        return _matched(_PATH, rest).rfind("@") + 1
    if not user and (_HOST if before else _NAME).fullmatch(name):
        return 0
    return rest.rfind("@") + 1


def _matched(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return found[0] if found else ""


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


def may_link(page: str, url: str) -> bool:
    """Whether an address that a page names may be asked: by https, or by http where both are on this machine."""
    try:
        scheme = urlsplit(url).scheme
        return scheme == "https" or (scheme == "http" and is_loopback(url) and is_loopback(page))
    except ValueError:  # not a URL
        return False


def with_credentials(url: str, own: str) -> str:
    """A URL with the credentials that another one of the same scheme and host carries, if it has none itself."""
    parts, source = urlsplit(url), urlsplit(own)
    same = (parts.scheme, host(url)) == (source.scheme, host(own))
    return urlunsplit(parts._replace(netloc=source.netloc)) if same and "@" not in parts.netloc else url
