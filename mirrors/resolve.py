"""From a lock to files: which wheel of each pin an environment takes, and where each mirror has it.

One index page a pin is read, from the best index that has it. Where the other mirrors have the same file follows from
where they have the one that they were measured on: PyPI's mirrors keep PyPI's own paths. What was learnt of a file is
kept, for it never changes. Knows nothing of which mirror is fast: it gets them best first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mirrors import index
from mirrors.catalogue import Mirror
from mirrors.digest import sha256_of
from mirrors.errors import MirrorError, Unreachable
from mirrors.fetch import Artifact
from mirrors.http import HttpSettings
from mirrors.index import Listed, NotAnIndex
from mirrors.known import Known, tail_of
from mirrors.lock import Pin
from mirrors.store import Store

_PAGES_AT_ONCE = 8
_PAGE_SECONDS = 20.0
_INDEXES_ASKED = 4  # for one pin: a mirror may be behind, but not all of them are


@dataclass(frozen=True)
class Wheel:
    """The one file of a pin that will be installed.

    Attributes:
        project: its normalized name.
        version: as the lock has it.
        filename: the wheel's own name.
        artifact: size where known, and the sha256 that the lock allows.
        urls: where it can be had, best first. They may carry credentials, so they stay out of the repr.
    """

    project: str
    version: str
    filename: str
    artifact: Artifact
    urls: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Index:
    """An index to take wheels from; `sample` is where it has the file that it was measured on, if it was."""

    mirror: Mirror
    sample: str | None = field(default=None, repr=False)


def resolve(
    pins: Sequence[Pin],
    tags: Sequence[Tag],
    indexes: Sequence[Index],
    http: HttpSettings,
    known: Known,
) -> tuple[Wheel, ...]:
    """The wheel of each pin, in their order.

    Args:
        pins: from the lock.
        tags: what the environment takes, best first: see `mirrors.tags`.
        indexes: where to look, best first; those that are directories of this machine before all others.
        http: how to ask.
        known: what earlier runs have learnt; it is added to.

    Raises:
        MirrorError: no index has a wheel of some pin that the lock allows and that fits; says which.
    """
    order, recalled = _order(tags), known.recall(tags)
    here = [asked for asked in indexes if _is_file(asked.mirror.url)]
    away = [asked for asked in indexes if not _is_file(asked.mirror.url)]

    def look(pin: Pin) -> Wheel:
        wheel = _local(pin, order, here) or _recalled(pin, recalled, order, away)
        return wheel or _looked_up(pin, order, away, http)

    with ThreadPoolExecutor(_PAGES_AT_ONCE, "i2v-resolve") as pool:
        wheels = tuple(pool.map(look, pins))
    known.keep(tags, (_listed(wheel) for wheel in wheels if not is_local(wheel)))
    return wheels


def at_hand(
    pins: Sequence[Pin], tags: Sequence[Tag], directories: Sequence[Index], known: Known, store: Store
) -> tuple[Wheel, ...] | None:
    """The wheel of each pin where all of them are on this machine, in a directory or in the store; else None.

    Asks nobody. A wheel of the store has no URL.
    """
    order, recalled, wheels = _order(tags), known.recall(tags), []
    for pin in pins:
        listed = _best(_of(pin, recalled), pin, order)
        stored = _wheel(pin, listed, ()) if listed and listed.sha256 and store.has(listed.sha256) else None
        wheel = _local(pin, order, directories) or stored
        if wheel is None:
            return None
        wheels.append(wheel)
    return tuple(wheels)


def is_local(wheel: Wheel) -> bool:
    """Whether the wheel lies in a directory of this machine: its first address is a file URL."""
    return wheel.urls[:1] != () and _is_file(wheel.urls[0])


def _is_file(url: str) -> bool:
    return urlsplit(url).scheme == "file"


def _order(tags: Sequence[Tag]) -> dict[Tag, int]:
    return {tag: place for place, tag in enumerate(tags)}


def _local(pin: Pin, order: Mapping[Tag, int], directories: Sequence[Index]) -> Wheel | None:
    for directory in directories:
        path = Path(url2pathname(urlsplit(directory.mirror.url).path))
        listed = _best(_in_directory(path, pin), pin, order)
        if listed is not None:
            return _wheel(pin, listed, (listed.url,))
    return None


def _recalled(
    pin: Pin, recalled: Mapping[str, Listed], order: Mapping[Tag, int], indexes: Sequence[Index]
) -> Wheel | None:
    listed = _best(_of(pin, recalled), pin, order)
    urls = _everywhere(listed, None, indexes) if listed else []
    return _wheel(pin, listed, urls) if listed and urls else None


def _of(pin: Pin, recalled: Mapping[str, Listed]) -> list[Listed]:
    return [recalled[sha256] for sha256 in pin.sha256s if sha256 in recalled]


def _looked_up(pin: Pin, order: Mapping[Tag, int], indexes: Sequence[Index], http: HttpSettings) -> Wheel:
    # Version+local is what PyTorch's own indexes have, and PyPI's mirrors never do.
    of_its_kind = [found for found in indexes if ("+" in pin.version) == (found.mirror.kind == "pytorch")]
    others = [found for found in indexes if found not in of_its_kind]
    told = []
    for asked in (*of_its_kind[:_INDEXES_ASKED], *others[:_INDEXES_ASKED]):
        try:
            listed = _best(_listing(asked.mirror, pin, http), pin, order)
        except (NotAnIndex, Unreachable) as error:
            told.append(f"{asked.mirror.name}: {error}")
            continue
        if listed is not None:
            return _wheel(pin, listed, _everywhere(listed, asked, indexes))
        told.append(f"{asked.mirror.name} lacks it")
    reasons = "; ".join(told) or "there is no index"
    raise MirrorError(
        f"no index has a wheel of {pin.name} {pin.version} that the lock allows and that fits: {reasons}",
        "choose another mirror with --mirror; `i2v-setup mirrors test` says what each can do",
    )


def _listing(mirror: Mirror, pin: Pin, http: HttpSettings) -> list[Listed]:
    """What an index lists of a pin."""
    page = index.get_page(mirror, pin.name, http, _PAGE_SECONDS)
    listed, known = index.files(page, pin.name, lambda filename: _is_of(filename, pin)), dict(pin.names)
    return [replace(file, sha256=file.sha256 or known.get(file.filename)) for file in listed]


def _in_directory(directory: Path, pin: Pin) -> list[Listed]:
    wheels = (path for path in directory.rglob("*.whl") if _is_of(path.name, pin))
    return [Listed(path.name, path.resolve().as_uri(), sha256_of(path), path.stat().st_size) for path in wheels]


def _is_of(filename: str, pin: Pin) -> bool:
    try:
        project, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    # The name comes from an index, and some day it is the name of a file.
    return (project, str(version)) == (pin.name, pin.version) and not set("/\\") & set(filename)


def _best(files: Sequence[Listed], pin: Pin, order: Mapping[Tag, int]) -> Listed | None:
    """Of the files that the lock allows, the one that fits best."""
    ranked = [
        (place, file) for file in files if file.sha256 in pin.sha256s and (place := _place(file, order)) is not None
    ]
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None


def _place(file: Listed, order: Mapping[Tag, int]) -> int | None:
    try:
        tags = parse_wheel_filename(file.filename)[3]
    except InvalidWheelFilename:
        return None
    return min((order[tag] for tag in tags if tag in order), default=None)


def _wheel(pin: Pin, listed: Listed, urls: Sequence[str]) -> Wheel:
    assert listed.sha256 is not None
    artifact = Artifact(listed.filename, listed.size, listed.sha256)
    return Wheel(pin.name, pin.version, listed.filename, artifact, tuple(urls))


def _listed(wheel: Wheel) -> Listed:
    tails = (url for url in wheel.urls if tail_of(url))
    return Listed(wheel.filename, next(tails, ""), wheel.artifact.sha256, wheel.artifact.size)


def _everywhere(file: Listed, lister: Index | None, indexes: Sequence[Index]) -> list[str]:
    """Where the indexes have a file that one of them lists, in their order."""
    urls = (file.url if found is lister else _there(found, file) for found in indexes)
    return [url for url in urls if url is not None]


def _there(found: Index, file: Listed) -> str | None:
    """Where an index has a file, going by where it has its sample."""
    if found.sample is None:
        return None
    sample = found.sample.partition("#")[0]
    if unquote(sample.rpartition("/")[2]) == file.filename:
        return sample
    own, tail = tail_of(sample), tail_of(file.url)
    return sample.removesuffix(own) + tail if own and tail else None
