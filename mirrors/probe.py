"""Measuring mirrors: all at once, by what the install will ask of them, within a deadline.

A mirror is good if it serves the pinned file that is wanted, itself, to the installer that will come. Each is asked two
things at most (its index page, and the first 256 KiB of that file), redirects aside. A bad mirror is data, never an
exception. Knows nothing of which mirror to take.
"""

from __future__ import annotations

import functools
import html
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import url2pathname

import requests
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mirrors.catalogue import Mirror, channel_base
from mirrors.errors import MirrorError, Unreachable
from mirrors.http import HttpSettings, body
from mirrors.urls import is_loopback

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

Verdict = Literal["good", "unusable"]

PROBE_BYTES = 256 * 1024
_PAGE_BYTES = 16 << 20  # no index page of a project is larger
_SUFFIXES = (".whl", ".tar.gz", ".zip")
_SMALL_PROJECT = "wheel"  # every PyPI mirror has it, and its page is short
_LAST_MOMENT = 0.2  # seconds before the deadline at which a probe comes to its conclusion


@dataclass(frozen=True)
class Wanted:
    """A pinned file that the install will need.

    Attributes:
        project: its project's name.
        filename: its name; None where the lock names only a version: then any file of it that fits this interpreter.
        sha256: the hash that the lock has for it, or all that the lock allows.
        size: in bytes, where known.
        version: of the project, where there is no filename.
    """

    project: str
    filename: str | None
    sha256: str | frozenset[str]
    size: int | None = None
    version: str | None = None

    @property
    def label(self) -> str:
        """For people: "torch 2.13.0"."""
        version = self.version
        if version is None and self.filename is not None:
            version = _version(self.filename)
        return f"{self.project} {version}" if version else self.filename or self.project

    def allows(self, sha256: str) -> bool:
        """Whether the lock has this hash."""
        return sha256 in ({self.sha256} if isinstance(self.sha256, str) else self.sha256)


@dataclass(frozen=True)
class Measurement:
    """What a probe found.

    Attributes:
        mirror: what was probed.
        latency: seconds from a question to the first byte of its answer.
        rate: bytes per second of the part of the wanted file that was read.
        verdict: whether the install can use it.
        reason: why, as the rest of a sentence that begins with the mirror's name.
        requests: how many were sent, redirects included.
        probe_bytes: bytes of the wanted file that were read.
    """

    mirror: Mirror
    latency: float | None
    rate: float | None
    verdict: Verdict
    reason: str
    requests: int
    probe_bytes: int


def measure(
    mirrors: Sequence[Mirror], wanted: Wanted | None, http: HttpSettings, deadline: float = 5.0
) -> list[Measurement]:
    """Probe all mirrors at once; one measurement a mirror, in their order, after `deadline` seconds at the latest.

    Args:
        mirrors: the candidates. A mirror that gets its bytes from another one of them is unusable.
        wanted: the pinned file that they must have; None: only whether they answer, and how soon.
        http: how to ask; its User-Agent should be the installer's.
        deadline: seconds.
    """
    end = time.monotonic() + deadline
    probes = [_Probe(mirror, http, end - _LAST_MOMENT) for mirror in mirrors]
    threads = [threading.Thread(target=probe.run, args=(wanted,), name="i2v-probe", daemon=True) for probe in probes]
    for thread in threads:
        thread.start()
    for thread in threads:  # a daemon that hangs in name resolution is left behind
        thread.join(max(0.0, end - time.monotonic()))
    late: tuple[Verdict, str] = ("unusable", f"does not answer within {deadline:.3g} s")
    results = [probe.result or late for probe in probes]  # read once: a straggler must not change its mind below
    return [_measurement(probe, probes, *result) for probe, result in zip(probes, results, strict=True)]


class _Unusable(Exception):
    """Why, as the rest of a sentence."""


@dataclass
class _Probe:
    """One mirror's probe, in a thread of its own; `result` is set last, so whoever sees it sees all the rest."""

    mirror: Mirror
    http: HttpSettings
    end: float
    result: tuple[Verdict, str] | None = None
    latency: float | None = None
    rate: float | None = None
    asked: int = 0
    probe_bytes: int = 0
    hosts: set[str] = field(default_factory=set)  # that gave the bytes of the wanted file

    def run(self, wanted: Wanted | None) -> None:
        try:
            self.result = ("good", self._look(wanted))
        except _Unusable as reason:
            self.result = ("unusable", str(reason))
        except Unreachable as error:
            self.result = ("unusable", error.reason)
        except MirrorError as error:
            self.result = ("unusable", f"cannot be asked: {error}")
        except Exception as error:  # noqa: BLE001  # whatever a hostile page makes a parser do is the mirror's fault
            self.result = ("unusable", f"sends what cannot be read ({type(error).__name__})")

    def _look(self, wanted: Wanted | None) -> str:
        if self.mirror.url.startswith("file:"):
            return self._look_in_directory(wanted)
        if self.mirror.layout in ("simple", "flat") and (wanted is not None or self.mirror.kind == "pypi"):
            return self._look_in_index(wanted)
        with closing(self._get(_address(self.mirror), {})) as response:
            if response.status_code in (403, 429) or response.status_code >= 500:
                raise _Unusable(_refusal(response))
        return f"answers after {1000 * (self.latency or 0):.0f} ms"

    def _look_in_index(self, wanted: Wanted | None) -> str:
        project = canonicalize_name(wanted.project if wanted else _SMALL_PROJECT)
        url = self.mirror.url if self.mirror.layout == "flat" else f"{self.mirror.url}/{project}/"
        page, where, type_ = self._page(url, wanted.label if wanted else project)
        files = list(_files(page, where, type_, project, wanted))
        if wanted is None:
            return f"answers after {1000 * (self.latency or 0):.0f} ms"
        file = _pick(files, wanted)
        self._read_start(file.url, wanted)
        return f"has {wanted.label}; first byte after {1000 * (self.latency or 0):.0f} ms, {_pace(self.rate)}"

    def _page(self, url: str, label: str) -> tuple[bytes, str, str]:
        """The bytes of an index page, its own address and its type."""
        from pypi_simple import ACCEPT_JSON_PREFERRED

        with closing(self._get(url, {"Accept": ACCEPT_JSON_PREFERRED, "Accept-Encoding": "gzip"})) as response:
            if response.status_code in (404, 410) or (response.status_code == 403 and self.mirror.kind == "pytorch"):
                raise _Unusable(f"lacks {label} (HTTP {response.status_code})")
            if response.status_code != 200:
                raise _Unusable(_refusal(response))
            page = bytearray()
            for block in body(response, decode=True):
                page += block
                if len(page) > _PAGE_BYTES:
                    raise _Unusable("sends an index page without end")
                if time.monotonic() > self.end:
                    raise _Unusable("is too slow to send its index page in time")
            return bytes(page), response.url, response.headers.get("Content-Type", "text/html")

    def _read_start(self, url: str, wanted: Wanted) -> None:
        """Read the first bytes of the wanted file, and see who sends them, how soon and how fast."""
        if urlsplit(url).scheme != "https" and not (is_loopback(url) and is_loopback(self.mirror.url)):
            raise _Unusable(f"lists {wanted.label} at an address that is not https")
        self.hosts.add(_host(url))
        with closing(self._get(url, {"Range": f"bytes=0-{PROBE_BYTES - 1}"})) as response:
            self.hosts.add(_host(response.url))
            if response.status_code in (404, 410):
                raise _Unusable(f"lists {wanted.label} and does not have it (HTTP {response.status_code})")
            if response.status_code not in (200, 206):
                raise _Unusable(_refusal(response))
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise _Unusable("serves a web page in place of the file")
            size = _size(response)
            if None not in (wanted.size, size) and size != wanted.size:
                raise _Unusable(f"has a file of {size} bytes for {wanted.label}, not of {wanted.size}")
            self._time(response, url)

    def _time(self, response: requests.Response, url: str) -> None:
        began, start = time.monotonic(), b""
        for block in body(response, block=PROBE_BYTES):
            start = start or block
            self.probe_bytes += len(block)
            if self.probe_bytes >= PROBE_BYTES or time.monotonic() > self.end:
                break
        if not self.probe_bytes or (urlsplit(url).path.endswith(".whl") and not start.startswith(b"PK")):
            raise _Unusable("serves something else in place of the file")
        self.rate = self.probe_bytes / max(time.monotonic() - began, 1e-3)

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        began = time.monotonic()
        if began >= self.end:
            raise _Unusable("is too slow to answer in time")
        try:
            response = self.http.get(url, headers, within=self.end - began)
        finally:
            self.asked += 1
        self.latency = time.monotonic() - began
        self.asked += len(response.history)
        return response

    def _look_in_directory(self, wanted: Wanted | None) -> str:
        directory = Path(url2pathname(urlsplit(self.mirror.url).path))
        if not directory.is_dir():
            raise _Unusable("is not a directory")
        if wanted is not None:
            names = (path.name for path in directory.rglob("*.whl"))
            if not any(_is_wanted(name, wanted) for name in names):
                raise _Unusable(f"lacks {wanted.label}")
        self.latency = 0.0
        return "is a local directory"


def _measurement(probe: _Probe, probes: Sequence[_Probe], verdict: Verdict, reason: str) -> Measurement:
    owner = _owner(probe, probes)
    if owner is not None:
        verdict, reason = "unusable", f"is no mirror of its own: the bytes come from {owner.name}"
    return Measurement(probe.mirror, probe.latency, probe.rate, verdict, reason, probe.asked, probe.probe_bytes)


def _owner(probe: _Probe, probes: Sequence[_Probe]) -> Mirror | None:
    """The other candidate from which this one has its bytes, if so.

    Where upstream keeps its files is learnt from its own probe: index and files may lie on different hosts.
    """
    if probe.mirror.upstream:
        return None
    own = _host(probe.mirror.url)
    for other in probes:
        hosts = {_host(other.mirror.url)} | (other.hosts if other.mirror.upstream else set())
        if own not in hosts and probe.hosts & hosts:
            return other.mirror
    return None


def _files(page: bytes, url: str, type_: str, project: str, wanted: Wanted | None) -> list[DistributionPackage]:
    """The files that an index page lists, as far as they matter.

    Raises:
        _Unusable: the page is no index.
    """
    from pypi_simple import ProjectPage

    portal = _Unusable("serves a web page instead of an index; is there a login page in between?")
    try:
        if "json" in type_:
            return ProjectPage.from_json_data(json.loads(page), url).packages
        if "html" not in type_:
            raise portal
        text = page.decode("utf-8", "replace")
        anchors = _anchors(text)
        if not any(name.endswith(_SUFFIXES) for name in anchors) and "pypi:repository-version" not in text:
            raise portal
        # To parse a page of thousands of links takes longer than to fetch it, so only the ones that matter are.
        relevant = [anchor for name, anchor in anchors.items() if wanted is None or _is_wanted(name, wanted)]
        return ProjectPage.from_html(project, "".join(relevant), base_url=_base(text, url)).packages
    except ValueError as error:  # pypi-simple's own errors are ValueErrors, JSON's too
        raise portal from error


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


def _is_wanted(name: str, wanted: Wanted) -> bool:
    if wanted.filename is not None:
        return name == wanted.filename
    try:
        project, version, _, _ = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return False
    return project == canonicalize_name(wanted.project) and str(version) == wanted.version


def _pick(files: Sequence[DistributionPackage], wanted: Wanted) -> DistributionPackage:
    """The file to measure: one that the lock allows; of several, one that fits this interpreter."""
    candidates = [file for file in files if _is_wanted(file.filename, wanted)]
    if not candidates:
        raise _Unusable(f"lacks {wanted.label}")
    allowed = [file for file in candidates if wanted.allows(file.digests.get("sha256", "").lower())]
    unlisted = [file for file in candidates if "sha256" not in file.digests]
    if not allowed and not unlisted:
        raise _Unusable(f"lists another sha256 for {wanted.label} than the lock has")
    return max(allowed or unlisted, key=lambda file: _fits(file.filename))


def _fits(filename: str) -> bool:
    try:
        return not parse_wheel_filename(filename)[3].isdisjoint(_tags())
    except InvalidWheelFilename:
        return False


@functools.cache
def _tags() -> frozenset[Tag]:
    return frozenset(sys_tags())


def _refusal(response: requests.Response) -> str:
    if response.status_code == 403:
        return "refuses this installer (HTTP 403)"
    if response.status_code == 429:
        return "wants fewer requests (HTTP 429)"
    return f"answers HTTP {response.status_code} {response.reason or ''}".rstrip()


def _size(response: requests.Response) -> int | None:
    ranged = re.fullmatch(r"bytes 0-\d+/(\d+)", response.headers.get("Content-Range", ""), re.ASCII)
    if response.status_code == 206:
        return int(ranged[1]) if ranged else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _address(mirror: Mirror) -> str:
    """What to ask a mirror of no index for, to see whether it answers."""
    if mirror.kind == "docker":
        return f"{mirror.url}/v2/"
    if mirror.kind == "conda":
        return f"{channel_base(mirror)}/conda-forge/noarch/repodata.json.zst"
    return quote(mirror.url, safe=":/@?=&%+~") + "/"


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _pace(rate: float | None) -> str:
    return f"{(rate or 0) / 1e6:.1f} MB/s"


def _version(filename: str) -> str | None:
    try:
        return str(parse_wheel_filename(filename)[1])
    except InvalidWheelFilename:
        return None
