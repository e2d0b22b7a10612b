"""The wheels that a lock comes down to: which files they are, where they can be had, and how they come into the store.

Environments and images take them from the same store, so what one has fetched the other has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.tags import Tag

from bootstrap.packages import PackageSources
from bootstrap.state import Home
from mirrors import resolve
from mirrors.fetch import Downloads, Fetched
from mirrors.http import HttpSettings
from mirrors.known import Known
from mirrors.lock import Pin
from mirrors.resolve import Index, Wheel
from mirrors.store import Store


def find(
    home: Home, pins: Sequence[Pin], tags: Sequence[Tag], sources: PackageSources, http: HttpSettings
) -> tuple[Wheel, ...]:
    """The wheel of each pin, and where the chosen mirrors have it.

    Raises:
        MirrorError: no index has a wheel of some pin that fits; says which.
    """
    return resolve.resolve(pins, tags, sources.indexes, http, _known(home))


def at_hand(
    home: Home, pins: Sequence[Pin], tags: Sequence[Tag], directories: Sequence[Index]
) -> tuple[Wheel, ...] | None:
    """The wheel of each pin if all are here already, in the store or in local directories; asks nobody."""
    return resolve.at_hand(pins, tags, directories, _known(home), Store(home.store))


def downloads(home: Home, sources: PackageSources, http: HttpSettings, on_bytes: Callable[[int], None]) -> Downloads:
    """Who fetches from the chosen mirrors into the store."""
    return Downloads(Store(home.store), http, on_bytes, sources.rates, sources.per_minute)


def bring(
    home: Home,
    wheels: Sequence[Wheel],
    sources: PackageSources,
    http: HttpSettings,
    on_bytes: Callable[[int], None],
) -> tuple[Fetched, ...]:
    """Fetch into the store what does not lie in a local directory.

    Raises:
        MirrorError: a wheel could not be had, or the disk is full. What came in is kept for the next try.
    """
    with downloads(home, sources, http, on_bytes) as fetching:
        remote = (wheel for wheel in wheels if not resolve.is_local(wheel))
        under_way = [fetching.want(wheel.artifact, wheel.urls) for wheel in remote]
        return tuple(download.result() for download in under_way)


def received(per_source: Iterable[Mapping[str, int]]) -> tuple[int, str]:
    """The bytes that came over the network, and from whom: who gave most, first."""
    total: Counter[str] = Counter()
    for given in per_source:
        total.update(given)
    return sum(total.values()), ", ".join(host for host, _ in total.most_common()) or "store"


def paths(home: Home, wheels: Sequence[Wheel]) -> dict[str, Path]:
    """Where the wheels lie, by their file names."""
    store = Store(home.store)
    return {
        wheel.filename: Path(url2pathname(urlsplit(wheel.urls[0]).path))
        if resolve.is_local(wheel)
        else store.path(wheel.artifact.sha256)
        for wheel in wheels
    }


def size(wheels: Sequence[Wheel]) -> int:
    """Bytes that are to be fetched at most: what lies in local directories is not."""
    return sum(wheel.artifact.size or 0 for wheel in wheels if not resolve.is_local(wheel))


def _known(home: Home) -> Known:
    return Known(home.cache / "wheels.json")
