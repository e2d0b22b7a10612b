"""From a lock to files: which wheel of each pin an environment takes, and where each mirror has it.

One index page a pin is read, from the best index that has it. Where the other mirrors have the same file follows from
where they have the one that they were measured on: PyPI's mirrors keep PyPI's own paths. A page is only believed where
a file lies, which the sha256 decides in the end; what the file is called says the lock. Knows nothing of which mirror
is fast: it gets them best first.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.tags import Tag

from mirrors import offers
from mirrors.artifact import Artifact
from mirrors.catalogue import Mirror
from mirrors.errors import MirrorError, Unreachable
from mirrors.http import HttpSettings
from mirrors.index import Listed, NotAnIndex
from mirrors.known import Known, tail_of
from mirrors.local import Shelf
from mirrors.lock import Pin
from mirrors.store import Store
from mirrors.tags import order as tag_order

_PAGES_AT_ONCE = 4  # connections to one mirror, as for files
_INDEXES_ASKED = 4  # for one pin: a mirror may be behind, but not all of them are


@dataclass(frozen=True)
class Wheel:
    """The one file of a pin that will be installed.

    Attributes:
        project: its normalized name.
        version: as the lock has it.
        filename: the wheel's own name.
        artifact: the sha256 that the lock allows, and the size where it was verified once.
        urls: where it can be had, best first. They may carry credentials, so they stay out of the repr.
        told: the size that an index claims, in bytes: good for progress, and for nothing else.
        path: where it lies in a directory of this machine; then it is not fetched.
    """

    project: str
    version: str
    filename: str
    artifact: Artifact
    urls: tuple[str, ...] = field(repr=False)
    told: int | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Index:
    """An index to take wheels from; `sample` is where it has the file that it was measured on, if it was."""

    mirror: Mirror
    sample: str | None = field(default=None, repr=False)

    @property
    def directory(self) -> Path | None:
        """The directory of this machine that it is, if so."""
        parts = urlsplit(self.mirror.url)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def resolve(
    pins: Sequence[Pin], tags: Sequence[Tag], indexes: Sequence[Index], http: HttpSettings, known: Known
) -> tuple[Wheel, ...]:
    """The wheel of each pin, in their order.

    Args:
        pins: from the lock.
        tags: what the environment takes, best first: see `mirrors.tags`.
        indexes: where to look, best first; those that are directories of this machine before all others.
        http: how to ask.
        known: what earlier runs have learnt.

    Raises:
        MirrorError: no index has a wheel of some pin that the lock allows and that fits; says which.
    """
    order, recalled = tag_order(tags), known.recall(tags)
    shelf, asked = _shelf(indexes), _Asked([found for found in indexes if found.directory is None], http)

    def look(pin: Pin) -> Wheel:
        here = _local(pin, order, shelf) or _recalled(pin, recalled, order, asked.indexes)
        return here or asked.find(pin, order)

    with ThreadPoolExecutor(_PAGES_AT_ONCE, "i2v-resolve") as pool:
        return tuple(pool.map(look, pins))


def at_hand(
    pins: Sequence[Pin],
    tags: Sequence[Tag],
    directories: Sequence[Index],
    known: Known,
    store: Store,
    unpacked: Collection[tuple[str, str]] = (),
) -> tuple[Wheel, ...] | None:
    """The wheel of each pin where all of them are on this machine, in a directory or in the store; else None.

    Asks nobody. A wheel of the store has neither URL nor path.

    Args:
        pins: as for `resolve`, like what follows.
        tags: what the environment takes.
        directories: of this machine.
        known: what earlier runs have learnt.
        store: where fetched files are.
        unpacked: projects and versions that whoever installs has without their files.
    """
    order, recalled, shelf, wheels = tag_order(tags), known.recall(tags), _shelf(directories), []
    for pin in pins:
        listed = offers.best(_of(pin, recalled), pin, order)
        has = (pin.name, pin.version) in unpacked or (listed and listed.sha256 and store.has(listed.sha256))
        wheel = _local(pin, order, shelf) or (_wheel(pin, listed, ()) if listed and has else None)
        if wheel is None:
            return None
        wheels.append(wheel)
    return tuple(wheels)


class _Asked:
    """The indexes that are asked for pages, by several threads; one that fails is asked last from then on."""

    def __init__(self, indexes: Sequence[Index], http: HttpSettings) -> None:
        self.indexes = indexes
        self._http = http
        self._failing: set[str] = set()
        self._lock = threading.Lock()

    def find(self, pin: Pin, order: Mapping[Tag, int]) -> Wheel:
        told = []
        for asked in self._in_order(pin):
            try:
                files = offers.listing(asked.mirror, pin, self._http)
                listed = offers.best(files, pin, order)
            except (NotAnIndex, Unreachable) as error:
                told.append(f"{asked.mirror.name}: {error}")
                if not error.reason.startswith("lacks"):
                    with self._lock:
                        self._failing.add(asked.mirror.url)
                continue
            if listed is not None:
                return _wheel(pin, listed, self._everywhere(pin, listed, asked))
            told.append(f"{asked.mirror.name} {offers.lack(pin, files)}")
        reasons = "; ".join(told) or "there is no index"
        raise MirrorError(
            f"no index has a wheel of {pin.name} {pin.version} that the lock allows and that fits: {reasons}",
            "choose another mirror with --mirror; `i2v-setup mirrors test` says what each can do",
        )

    def _everywhere(self, pin: Pin, file: Listed, lister: Index) -> list[str]:
        """Where the indexes have a file that one of them lists; measured ones of another layout are asked too."""
        known = {found.mirror.url: _there(found, file) for found in self.indexes} | {lister.mirror.url: file.url}
        strange = [found for found in self.indexes if found.sample and not known[found.mirror.url]]
        for found in [found for found in strange if found.mirror.kind == lister.mirror.kind][: _INDEXES_ASKED - 1]:
            with suppress(NotAnIndex, Unreachable):
                files = offers.listing(found.mirror, pin, self._http)
                same = (other.url for other in files if (other.filename, other.sha256) == (file.filename, file.sha256))
                known[found.mirror.url] = next(same, None)
        return [url for url in known.values() if url is not None]

    def _in_order(self, pin: Pin) -> Iterator[Index]:
        """Those of the kind that the pin needs, the others, and among the measured ones only the first few.

        Version+local is what PyTorch's own indexes have, and PyPI's mirrors never do.
        """
        with self._lock:
            indexes = sorted(self.indexes, key=lambda found: found.mirror.url in self._failing)
        of_its_kind = [found for found in indexes if ("+" in pin.version) == (found.mirror.kind == "pytorch")]
        for group in (of_its_kind, [found for found in indexes if found not in of_its_kind]):
            yield from [found for found in group if found.sample is not None][:_INDEXES_ASKED]
            yield from [found for found in group if found.sample is None]  # the user's own: named, not measured


def _local(pin: Pin, order: Mapping[Tag, int], shelf: Shelf) -> Wheel | None:
    found = shelf.find(pin, order)
    if found is None:
        return None
    listed = Listed(found.path.name, "", found.sha256, found.size)
    return replace(_wheel(pin, listed, ()), path=found.path)


def _shelf(indexes: Sequence[Index]) -> Shelf:
    return Shelf(found.directory for found in indexes if found.directory is not None)


def _recalled(
    pin: Pin, recalled: Mapping[str, Listed], order: Mapping[Tag, int], indexes: Sequence[Index]
) -> Wheel | None:
    listed = offers.best(_of(pin, recalled), pin, order)
    urls = [url for found in indexes if listed and (url := _there(found, listed))]
    if listed is None or not urls:
        return None
    wheel = _wheel(pin, listed, urls)
    return replace(wheel, artifact=replace(wheel.artifact, size=listed.size))  # it was verified when it was learnt


def _of(pin: Pin, recalled: Mapping[str, Listed]) -> list[Listed]:
    return [recalled[sha256] for sha256 in pin.sha256s if sha256 in recalled]


def _wheel(pin: Pin, listed: Listed, urls: Sequence[str]) -> Wheel:
    assert listed.sha256 is not None
    artifact = Artifact(listed.filename, None, listed.sha256)
    return Wheel(pin.name, pin.version, listed.filename, artifact, tuple(urls), listed.size)


def _there(found: Index, file: Listed) -> str | None:
    """Where an index has a file, going by where it has its sample."""
    if found.sample is None:
        return None
    sample = found.sample.partition("#")[0]
    if unquote(sample.rpartition("/")[2]) == file.filename:
        return sample
    own, tail = tail_of(sample), tail_of(file.url)
    return sample.removesuffix(own) + tail if own and tail else None
