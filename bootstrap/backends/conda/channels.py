"""Which mirrors have a channel's index, best first: they are all asked at once for the beginning of it.

What is measured here only decides whose index is read; which mirrors give the packages is measured on a package
(see `sources`), once it is known which those are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bootstrap.backends.conda.packages import address
from bootstrap.errors import SetupError
from bootstrap.machine import Machine
from mirrors.catalogue import Mirror
from mirrors.choose import reasons
from mirrors.errors import MirrorError, NoMirror, Unreachable
from mirrors.http import HttpSettings, body

_INDEXES = ("repodata.json.zst", "repodata.json")  # a mirror has the second at least
_FIRST_BYTES = 1 << 18
_PATIENCE = 5.0  # seconds
_SYSTEMS = {"Linux": "linux", "Darwin": "osx", "Windows": "win"}
_ARCHES = {"x86_64": "64", "AMD64": "64", "i686": "32"}


@dataclass(frozen=True)
class Seen:
    """What a mirror answered: how long the beginning of its index took in seconds, or why it is out."""

    mirror: Mirror
    seconds: float
    problem: str = ""


def subdir_of(machine: Machine) -> str:
    """The name that conda has for this kind of machine: "linux-64".

    Raises:
        SetupError: conda has none.
    """
    if machine.system not in _SYSTEMS:
        raise SetupError(f"conda has no packages for {machine.system}", "use Linux, macOS or Windows")
    arch = "arm64" if (machine.system, machine.arch) == ("Darwin", "arm64") else machine.arch
    return f"{_SYSTEMS[machine.system]}-{_ARCHES.get(arch, arch)}"


def look(mirrors: Sequence[Mirror], channel: str, subdir: str, http: HttpSettings) -> list[Seen]:
    """Ask all mirrors for the channel's index for that kind of machine; the soonest first, those that are out last."""
    with ThreadPoolExecutor(max_workers=max(1, len(mirrors))) as pool:
        seen = list(pool.map(lambda mirror: _look(mirror, f"{address(mirror, channel)}/{subdir}", http), mirrors))
    return sorted(seen, key=lambda it: (bool(it.problem), it.seconds))


def with_index(seen: Sequence[Seen], channel: str) -> tuple[Mirror, ...]:
    """Those that have the index, in their order.

    Raises:
        NoMirror: none has it; says why for each.
    """
    good = tuple(it.mirror for it in seen if not it.problem)
    if not good:
        why = reasons((it.mirror.name, it.problem) for it in seen)
        raise NoMirror(
            f"no mirror has an index of the channel {channel}: {why}",
            "check the channel's name and the network; `i2v-setup mirrors test --kind conda` asks them all",
        )
    return good


def _look(mirror: Mirror, url: str, http: HttpSettings) -> Seen:
    began, problem = time.monotonic(), ""
    for name in _INDEXES:
        problem = _problem(f"{url}/{name}", http, _PATIENCE - (time.monotonic() - began))
        if not problem:
            break
    return Seen(mirror, time.monotonic() - began, problem)


def _problem(url: str, http: HttpSettings, within: float) -> str:
    """Why the file cannot be had, as the rest of a sentence about the mirror; empty: its beginning came."""
    if url.startswith("file:"):
        return "" if Path(url2pathname(urlsplit(url).path)).is_file() else "has no index there"
    try:
        with closing(http.get(url, {"Range": f"bytes=0-{_FIRST_BYTES - 1}"}, max(0.1, within))) as answer:
            if answer.status_code not in (200, 206):
                return f"has no index there (HTTP {answer.status_code})"
            if "html" in answer.headers.get("Content-Type", ""):
                return "answers with a web page"
            return _too_slow(body(answer), time.monotonic() + within)
    except Unreachable as error:
        return error.reason
    except MirrorError as error:
        return f"cannot be asked: {error}"


def _too_slow(blocks: Iterator[bytes], deadline: float) -> str:
    """Read the beginning; why that was not good enough."""
    missing = _FIRST_BYTES
    for block in blocks:
        missing -= len(block)
        if missing <= 0:
            break
        if time.monotonic() > deadline:
            return f"sends less than {_FIRST_BYTES >> 10} KiB of its index in {_PATIENCE:.0f} s"
    return "" if missing < _FIRST_BYTES else "has an empty index there"
