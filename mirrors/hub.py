"""The upstream model hub's own word on the files of a repository. It alone may say what their bytes are.

Of a large file the hub says the sha256; of a small one only the id that git gave it, so its content is asked for as
well, and held against that. Knows nothing of mirrors, which are never asked here, or of what a file is for.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

import requests

from mirrors import catalogue, urls
from mirrors.catalogue import Mirror
from mirrors.errors import HubRefused, MirrorError, Unreachable
from mirrors.http import HttpSettings, body, retry_after

SMALL_BYTES = 32 << 20  # the hub takes no larger file without keeping its sha256
_PAGE_BYTES = 16 << 20
_PAGES = 50  # of a thousand files each
_WITHIN = 10.0  # seconds to the first byte
_SECONDS = 60.0  # for a whole answer
_TRIES = 3
_PATIENCE = 15.0  # seconds that a busy hub may make us wait
_LARGEST = 1 << 50
_REFUSALS = (401, 403)
_SHA256, _SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Published:
    """A file as the hub lists it: its size in bytes, and its sha256 or, of a small file, the id of its git blob."""

    path: str
    size: int
    sha256: str | None
    blob: str


def upstream(hubs: Sequence[Mirror]) -> Mirror | None:
    """The one that files are published on; None: the user's own catalogue has put a mirror in its place."""
    return next((hub for hub in hubs if hub.id == "upstream" and hub.upstream and hub.layout == "huggingface"), None)


def listing(hub: Mirror, repo: str, revision: str, http: HttpSettings) -> dict[str, Published]:
    """All files of a commit, by path.

    Raises:
        Unreachable: no answer now.
        HubRefused: it wants another account than ours, or has no such repository.
        MirrorError: what it answers makes no sense.
    """
    url: str | None = f"{hub.url}/api/models/{quote(repo)}/tree/{quote(revision, safe='')}?recursive=true"
    found: dict[str, Published] = {}
    for _ in range(_PAGES):
        if url is None:
            return found
        content, answer = _get(hub, repo, url, http, _PAGE_BYTES)
        if urls.host(answer.url) != urls.host(hub.url):
            raise MirrorError(f"{hub.name} sends the question for the files of {repo} elsewhere", _HINT)
        try:
            found |= {file.path: file for row in json.loads(content) if (file := _published(row)) is not None}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise MirrorError(f"{hub.name} gave no list of the files of {repo}", _HINT) from error
        url = _next_page(answer)
    raise MirrorError(f"{hub.name} gave a list without end for {repo}", _HINT)


def small_file(hub: Mirror, repo: str, revision: str, file: Published, http: HttpSettings) -> bytes:
    """The content of a small file, held against the id that the hub's listing has for it.

    Raises:
        Unreachable: no answer now.
        HubRefused: it wants another account than ours.
        MirrorError: the content is not what the listing names.
    """
    if file.size > SMALL_BYTES:
        raise MirrorError(f"{hub.name} names no sha256 for {file.path} of {repo}", _HINT)
    url = catalogue.hub_file(hub, repo, revision, file.path)
    content, _ = _get(hub, repo, url, http, file.size)
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)  # it is git's own choice
    if git.hexdigest() != file.blob:
        raise MirrorError(f"{hub.name} gives another {file.path} of {repo} than it lists", _HINT)
    return content


def require_access(hub: Mirror, repo: str, revision: str, path: str, http: HttpSettings) -> None:
    """Find out whether the hub gives that file to us.

    Raises:
        HubRefused: it does not.
        Unreachable: no answer now.
    """
    url = catalogue.hub_file(hub, repo, revision, path)
    with closing(http.get(url, {"Range": "bytes=0-0"}, _WITHIN)) as answer:
        _check(hub, repo, answer, http)


def _get(hub: Mirror, repo: str, url: str, http: HttpSettings, most: int) -> tuple[bytes, requests.Response]:
    """The whole answer, after at most three tries."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return _got(hub, repo, url, http, most)
        except _Busy as error:
            if not tries_left or error.wait > _PATIENCE:
                raise
            time.sleep(error.wait)
        except Unreachable as error:
            if not tries_left or error.retry != "now":
                raise
    raise AssertionError("the last try returns or raises")


def _got(hub: Mirror, repo: str, url: str, http: HttpSettings, most: int) -> tuple[bytes, requests.Response]:
    end = time.monotonic() + _SECONDS
    with closing(http.get(url, {"Accept": "*/*"}, _WITHIN)) as answer:
        _check(hub, repo, answer, http)
        content = bytearray()
        for block in body(answer, decode=True):
            content += block
            if len(content) > most:
                raise MirrorError(f"{hub.name} sends more than it should for {repo}", _HINT)
            if time.monotonic() > end:
                raise Unreachable(urls.shown(url), f"is not done within {_SECONDS:.0f} s", "later")
        return bytes(content), answer


def _check(hub: Mirror, repo: str, answer: requests.Response, http: HttpSettings) -> None:
    status, code = answer.status_code, answer.headers.get("X-Error-Code", "")
    if status in _REFUSALS and code != "RepoNotFound":
        raise HubRefused(
            f"{hub.name} refuses {repo} (HTTP {status}): it is for accounts that were let in",
            _way_in(hub, repo, signed_in=http.bearer is not None),
        )
    if status in (*_REFUSALS, 404, 410):
        raise HubRefused(f"{hub.name} does not have {repo} in that commit (HTTP {status})", _HINT)
    if status not in (200, 206):
        raise _Busy(answer)


class _Busy(Unreachable):
    """An answer that another try may change; `wait`: the seconds until then."""

    def __init__(self, answer: requests.Response) -> None:
        told = f"answers HTTP {answer.status_code} {answer.reason or ''}".rstrip()
        super().__init__(urls.shown(answer.url), told, "later")
        asked = retry_after(answer)
        self.wait = random.uniform(0.5, 1.5) if asked is None else asked  # noqa: S311  # so that not all come at once


def _way_in(hub: Mirror, repo: str, *, signed_in: bool) -> str:
    page = f"{urls.shown(hub.url)}/{repo}"
    if signed_in:
        return f"accept the licence at {page} with the account of your token; an old token is refused too"
    token = f"make a token that may read at {urls.shown(hub.url)}/settings/tokens"
    return f"accept the licence at {page}, {token}, and put it into HF_TOKEN or let `hf auth login` keep it"


def _published(row: Any) -> Published | None:
    if row["type"] != "file":
        return None
    lfs = row.get("lfs")
    sha256 = str(lfs["oid"]).removeprefix("sha256:") if lfs else None
    size = int((lfs or row)["size"])
    fits = 0 <= size < _LARGEST and (_SHA256.fullmatch(sha256) if sha256 else _SHA1.fullmatch(row["oid"]))
    if not fits:
        raise ValueError("neither a sha256 nor a git id")
    return Published(str(row["path"]), size, sha256, str(row["oid"]))


def _next_page(answer: requests.Response) -> str | None:
    link = answer.links.get("next", {}).get("url")
    url = urljoin(answer.url, link) if link else None
    return url if url is not None and urls.may_link(answer.url, url) else None


_HINT = "try again later; if it stays, choose another model (`i2v-setup models`)"
