"""The wheels that a lock comes down to: which files they are, where they can be had, and how they come into the store.

Environments and images take them from the same store, so what one has fetched the other has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from packaging.tags import Tag

from bootstrap.packages import PackageSources
from bootstrap.recorder import Recorder
from bootstrap.state import Home
from mirrors import resolve
from mirrors.digest import sha256_of
from mirrors.fetch import Downloads, Fetched
from mirrors.http import HttpSettings
from mirrors.index import Listed
from mirrors.known import Known, tail_of
from mirrors.lock import Pin
from mirrors.resolve import Index, Wheel
from mirrors.store import Store

Unpacked = Collection[tuple[str, str]]  # projects and versions that uv's cache has


def find(
    home: Home,
    pins: Sequence[Pin],
    tags: Sequence[Tag],
    sources: PackageSources,
    http: HttpSettings,
    unpacked: Unpacked = (),
) -> tuple[Wheel, ...]:
    """The wheel of each pin, and where the chosen mirrors have it. Asks nobody where all of them are here.

    With `unpacked` those are taken to be here too, and are not looked for elsewhere.

    Raises:
        MirrorError: no index has a wheel of some pin that fits; says which.
    """
    directories = [index for index in sources.indexes if index.directory is not None]
    here = at_hand(home, pins, tags, directories, unpacked)
    return here or resolve.resolve(pins, tags, sources.indexes, http, _known(home))


def at_hand(
    home: Home, pins: Sequence[Pin], tags: Sequence[Tag], directories: Sequence[Index], unpacked: Unpacked = ()
) -> tuple[Wheel, ...] | None:
    """The wheel of each pin if all are here already, in the store or in local directories; asks nobody."""
    return resolve.at_hand(pins, tags, directories, _known(home), Store(home.store), unpacked)


def missing(
    home: Home, pins: Sequence[Pin], tags: Sequence[Tag], directories: Sequence[Index], unpacked: Unpacked = ()
) -> list[Pin]:
    """The pins whose wheels are not here."""
    if at_hand(home, pins, tags, directories, unpacked) is not None:
        return []
    return [pin for pin in pins if at_hand(home, [pin], tags, directories, unpacked) is None]


def downloads(home: Home, sources: PackageSources, http: HttpSettings, on_bytes: Callable[[int], None]) -> Downloads:
    """Who fetches from the chosen mirrors into the store."""
    return Downloads(Store(home.store), http, on_bytes, sources.rates, sources.per_minute)


def bring(
    home: Home,
    wheels: Sequence[Wheel],
    sources: PackageSources,
    http: HttpSettings,
    on_bytes: Callable[[int], None],
    recorder: Recorder | None = None,
) -> tuple[Fetched, ...]:
    """Fetch into the store what does not lie in a local directory; `recorder` gets the parts of the phase "wheels".

    Raises:
        MirrorError: a wheel could not be had, or the disk is full. What came in is kept for the next try.
    """
    with downloads(home, sources, http, on_bytes) as fetching:
        under_way = [fetching.want(wheel.artifact, wheel.urls) for wheel in wheels if wheel.path is None]
        fetched = tuple(download.result() for download in under_way)
    if recorder is not None:
        recorder.fetched("wheels", fetching)
    return fetched


def received(per_source: Iterable[Mapping[str, int]]) -> tuple[int, str]:
    """The bytes that came over the network, and from whom: who gave most, first."""
    total: Counter[str] = Counter()
    for given in per_source:
        total.update(given)
    return sum(total.values()), ", ".join(host for host, _ in total.most_common()) or "store"


def paths(home: Home, wheels: Sequence[Wheel]) -> dict[str, Path]:
    """Where the wheels lie, by their file names."""
    store = Store(home.store)
    return {wheel.filename: wheel.path or store.path(wheel.artifact.sha256) for wheel in wheels}


def size(wheels: Sequence[Wheel]) -> int:
    """Bytes that are to be fetched at most: what lies in local directories is not."""
    return sum(wheel.artifact.size or wheel.told or 0 for wheel in wheels if wheel.path is None)


def learn(home: Home, tags: Sequence[Tag], wheels: Sequence[Wheel]) -> None:
    """Remember of those that were installed, and so were verified, what they are called and where they lie.

    The size is known of those that are in the store: uv's cache may have had the others.
    """
    store = Store(home.store)
    listed = []
    for wheel in wheels:
        if wheel.path is None:
            url = next((url for url in wheel.urls if tail_of(url)), "")
            stored = store.path(wheel.artifact.sha256)
            length = stored.stat().st_size if stored.is_file() else None
            listed.append(Listed(wheel.filename, url, wheel.artifact.sha256, length))
    _known(home).keep(tags, listed)


def drop_damaged(home: Home, wheels: Sequence[Wheel]) -> bool:
    """Read again what the store has of these, and remove what was changed since it came; whether there was any."""
    store = Store(home.store)
    stored = (wheel.artifact.sha256 for wheel in wheels if wheel.path is None and store.has(wheel.artifact.sha256))
    damaged = [sha256 for sha256 in stored if sha256_of(store.path(sha256)) != sha256]
    for sha256 in damaged:
        store.remove(sha256)
    return bool(damaged)


def _known(home: Home) -> Known:
    return Known(home.cache / "wheels.json")
