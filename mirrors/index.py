"""Reading package indexes: the page of a project, and the files that it lists.

PEP 503 and PEP 691 pages, and the flat pages of links that pip calls find-links. What a mirror lists is what it says,
not what is true; links that must not be followed and names that no package has are left out. Knows nothing of which
file is wanted, or of whether a mirror is any good.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin

import requests
from packaging.utils import canonicalize_name

from mirrors.catalogue import Mirror
from mirrors.errors import MirrorError
from mirrors.http import body, retry_after
from mirrors.urls import may_link, shown, with_credentials

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

PAGE_BYTES = 16 << 20  # no index page of a project is larger
# Parsers take many times the room of what they parse, and a second or more for a MiB of links, so of a page only so
# much is looked at, and of that only so much is parsed. What one wants of the largest projects is far below that.
_FILES_LOOKED_AT = 1 << 17
_FILES_PARSED = 1 << 13
_CHARACTERS_PARSED = 1 << 20  # of HTML
_JSON_VALUES = 1 << 20
_TAGS = 4  # "<" in one link: its own, and some that an attribute should have escaped
_SUFFIXES = (".whl", ".tar.gz", ".zip")
_LARGEST = 1 << 50  # bytes
_NAME = re.compile(r"[A-Za-z0-9_.+!-]{1,200}")
_SHA256 = re.compile("[0-9a-f]{64}")


class NotAnIndex(MirrorError):
    """A mirror that did not give the page of a project, or gave something else.

    Attributes:
        reason: the second half of a sentence about the mirror ("lacks torch (HTTP 404)").
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{shown(url)} {reason}")
        self.reason = reason


class NotHttps(NotAnIndex):
    """An index that has the files, and links to all of them in a way that must not be followed."""


class Getter(Protocol):
    """Who asks: `mirrors.http.HttpSettings`, or something around it."""

    def get(self, url: str, headers: Mapping[str, str], within: float | None = None) -> requests.Response:
        """The response to a GET, its body unread."""


@dataclass(frozen=True)
class Page:
    """An index page as it came: its own address (after redirects, so relative links work), and its Content-Type.

    The address carries the credentials that it was asked for with, as long as that is the same host.
    """

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
        return Page(bytes(page), with_credentials(response.url, url), response.headers.get("Content-Type", "text/html"))


def files(page: Page, project: str, relevant: Callable[[str], bool] | None = None) -> list[Listed]:
    """The files that an index page lists. A link to the page's own host gets the credentials of the page's address.

    Args:
        page: the page.
        project: whose page it is.
        relevant: which file names matter; None: all. To parse a page of thousands of links takes longer than to fetch
            it, so only these are parsed.

    Raises:
        NotAnIndex: the page is no index.
        NotHttps: it links to all of these files by something else than https.
    """
    try:
        parse = _parsed_json if "json" in page.type else _parsed_html
        named = [file for file in parse(page, project, relevant) if _NAME.fullmatch(file.filename)]
        listed = [_listed(file, page.url) for file in named if may_link(page.url, file.url)]
    except Exception as error:  # whatever a hostile page makes a parser do is the mirror's fault
        raise NotAnIndex(
            page.url, "serves a web page instead of an index; is there a login page in between?"
        ) from error
    if named and not listed:
        raise NotHttps(page.url, f"lists {project} at an address that is not https")
    return listed


def refusal(response: requests.Response) -> str:
    """An answer that is neither the page nor the file, as the second half of a sentence about the mirror."""
    if response.status_code == 403:
        return "refuses this installer (HTTP 403)"
    if response.status_code == 429:
        wait = retry_after(response)
        return "wants fewer requests (HTTP 429)" + (f", the next one in {wait:.0f} s" if wait else "")
    return f"answers HTTP {response.status_code} {response.reason or ''}".rstrip()


def _listed(file: DistributionPackage, page: str) -> Listed:
    told = file.digests.get("sha256", "").lower()
    sha256 = told if _SHA256.fullmatch(told) else None
    size = file.size if file.size and 0 < file.size < _LARGEST else None
    return Listed(file.filename, with_credentials(file.url, page), sha256, size)


def _parsed_json(page: Page, project: str, relevant: Callable[[str], bool] | None) -> list[DistributionPackage]:
    from pypi_simple import ProjectPage

    if sum(map(page.content.count, (b",", b"[", b"{"))) > _JSON_VALUES:
        raise ValueError(f"more than the page of {project} can need")
    data = json.loads(page.content)
    looked_at = islice(data["files"], _FILES_LOOKED_AT)
    chosen = (file for file in looked_at if relevant is None or relevant(file["filename"]))
    data["files"] = list(islice(chosen, _FILES_PARSED))
    return ProjectPage.from_json_data(data, page.url).packages


def _parsed_html(page: Page, project: str, relevant: Callable[[str], bool] | None) -> list[DistributionPackage]:
    from pypi_simple import ProjectPage

    text = page.content.decode("utf-8", "replace")
    links = "".join(_links(text, page.type, relevant))
    return ProjectPage.from_html(project, links, base_url=_base(text, page.url)).packages


def _links(text: str, type_: str, relevant: Callable[[str], bool] | None) -> list[str]:
    """The links of an HTML index to the relevant files, as many as are worth parsing."""
    is_index, room = "pypi:repository-version" in text, _CHARACTERS_PARSED
    links: dict[str, str] = {}
    for name, anchor in islice(_anchors(text) if "html" in type_ else (), _FILES_LOOKED_AT):
        is_index = is_index or name.endswith(_SUFFIXES)
        if len(anchor) <= room and len(links) < _FILES_PARSED and (relevant is None or relevant(name)):
            links[name] = anchor
            room -= len(anchor)
    if not is_index:
        raise ValueError("neither a link to a package nor the mark of an index")
    return list(links.values())


def _anchors(text: str) -> Iterator[tuple[str, str]]:
    """The links of an HTML page with their texts, in time linear in its length, whatever it holds."""
    begin = 0
    for end in re.finditer("</a>", text, flags=re.IGNORECASE):
        piece, begin = text[begin : end.start()], end.end()
        start = max(piece.rfind("<a "), piece.rfind("<A "))
        if start >= 0 and piece.count("<", start) <= _TAGS:
            yield html.unescape(piece[piece.rfind(">") + 1 :]).strip(), piece[start:] + "</a>"


def _base(text: str, url: str) -> str:
    base = re.search(r"<base\b[^<>]*?\bhref\s*=\s*[\"']?([^\"'<>\s]+)", text[:4096], re.IGNORECASE)
    return urljoin(url, html.unescape(base[1])) if base else url
