"""Reading package indexes: the page of a project, and the files that it lists.

PEP 503 and PEP 691 pages, and the flat pages of links that pip calls find-links. What a mirror lists is what it says,
not what is true. Knows nothing of which file is wanted, or of whether a mirror is any good.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urljoin

import requests
from packaging.utils import canonicalize_name

from mirrors.catalogue import Mirror
from mirrors.errors import MirrorError
from mirrors.http import body, retry_after
from mirrors.urls import shown

PAGE_BYTES = 16 << 20  # no index page of a project is larger
_SUFFIXES = (".whl", ".tar.gz", ".zip")


class NotAnIndex(MirrorError):
    """A mirror that did not give the page of a project, or gave something else.

    Attributes:
        reason: the second half of a sentence about the mirror ("lacks torch (HTTP 404)").
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{shown(url)} {reason}")
        self.reason = reason


class Getter(Protocol):
    """Who asks: `mirrors.http.HttpSettings`, or something around it."""

    def get(self, url: str, headers: Mapping[str, str], within: float | None = None) -> requests.Response:
        """The response to a GET, its body unread."""


@dataclass(frozen=True)
class Page:
    """An index page as it came: its own address (after redirects, so relative links work), and its Content-Type."""

    content: bytes = field(repr=False)
    url: str = field(repr=False)
    type: str


@dataclass(frozen=True)
class Listed:
    """A file as an index lists it.

    Attributes:
        filename: its name.
        url: where it lies; it may carry credentials.
        sha256: in lower case, where the index says it.
        size: in bytes, where the index says it.
    """

    filename: str
    url: str = field(repr=False)
    sha256: str | None
    size: int | None


def page_url(mirror: Mirror, project: str) -> str:
    """Where an index has the page of a project; a flat one has one page for all."""
    return mirror.url if mirror.layout == "flat" else f"{mirror.url}/{canonicalize_name(project)}/"


def get_page(mirror: Mirror, project: str, http: Getter, within: float) -> Page:
    """The page of a project, whole within so many seconds.

    Raises:
        NotAnIndex: the mirror lacks it, refuses it, or does not come to its end.
        Unreachable: no answer.
    """
    from pypi_simple import ACCEPT_JSON_PREFERRED

    url, end = page_url(mirror, project), time.monotonic() + within
    headers = {"Accept": ACCEPT_JSON_PREFERRED, "Accept-Encoding": "gzip"}
    with closing(http.get(url, headers, within)) as response:
        if response.status_code in (404, 410) or (response.status_code == 403 and mirror.kind == "pytorch"):
            raise NotAnIndex(url, f"lacks {project} (HTTP {response.status_code})")
        if response.status_code != 200:
            raise NotAnIndex(url, refusal(response))
        page = bytearray()
        for block in body(response, decode=True):
            page += block
            if len(page) > PAGE_BYTES:
                raise NotAnIndex(url, "sends an index page without end")
            if time.monotonic() > end:
                raise NotAnIndex(url, "is too slow to send its index page in time")
        return Page(bytes(page), response.url, response.headers.get("Content-Type", "text/html"))


def files(page: Page, project: str, relevant: Callable[[str], bool] | None = None) -> list[Listed]:
    """The files that an index page lists.

    Args:
        page: the page.
        project: whose page it is.
        relevant: which file names matter; None: all. To parse a page of thousands of links takes longer than to fetch
            it, so only these are parsed.

    Raises:
        NotAnIndex: the page is no index.
    """
    from pypi_simple import ProjectPage

    try:
        if "json" in page.type:
            data = json.loads(page.content)
            data["files"] = [file for file in data["files"] if relevant is None or relevant(file["filename"])]
            packages = ProjectPage.from_json_data(data, page.url).packages
        else:
            text = page.content.decode("utf-8", "replace")
            links = "".join(_links(text, page.type, relevant))
            packages = ProjectPage.from_html(project, links, base_url=_base(text, page.url)).packages
        return [
            Listed(file.filename, file.url, file.digests.get("sha256", "").lower() or None, file.size)
            for file in packages
        ]
    except Exception as error:  # whatever a hostile page makes a parser do is the mirror's fault
        raise NotAnIndex(
            page.url, "serves a web page instead of an index; is there a login page in between?"
        ) from error


def refusal(response: requests.Response) -> str:
    """An answer that is neither the page nor the file, as the second half of a sentence about the mirror."""
    if response.status_code == 403:
        return "refuses this installer (HTTP 403)"
    if response.status_code == 429:
        wait = retry_after(response)
        return "wants fewer requests (HTTP 429)" + (f", the next one in {wait:.0f} s" if wait else "")
    return f"answers HTTP {response.status_code} {response.reason or ''}".rstrip()


def _links(text: str, type_: str, relevant: Callable[[str], bool] | None) -> list[str]:
    """The links of an HTML index to the relevant files."""
    anchors = _anchors(text) if "html" in type_ else {}
    if not any(name.endswith(_SUFFIXES) for name in anchors) and "pypi:repository-version" not in text:
        raise ValueError("neither a link to a package nor the mark of an index")
    return [anchor for name, anchor in anchors.items() if relevant is None or relevant(name)]


def _anchors(text: str) -> dict[str, str]:
    """The links of an HTML page by their text, in time linear in its length, whatever it holds."""
    found = {}
    for piece in re.split("</a>", text, flags=re.IGNORECASE)[:-1]:
        name = html.unescape(piece[piece.rfind(">") + 1 :]).strip()
        start = max(piece.rfind("<a "), piece.rfind("<A "))
        if start >= 0:
            found[name] = piece[start:] + "</a>"
    return found


def _base(text: str, url: str) -> str:
    base = re.search(r"<base\b[^<>]*?\bhref\s*=\s*[\"']?([^\"'<>\s]+)", text[:4096], re.IGNORECASE)
    return urljoin(url, html.unescape(base[1])) if base else url
