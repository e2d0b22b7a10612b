"""Where conda packages are fetched from: mirrors measured on the largest of them, and the environment's own condarc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from bootstrap import choices
from bootstrap.backends.conda.packages import CondaPackage, address
from bootstrap.state import Home
from mirrors import catalogue, configs, urls
from mirrors.catalogue import Mirror
from mirrors.choose import Choice, rates, requests_per_minute
from mirrors.errors import FetchFailed
from mirrors.http import HttpSettings
from mirrors.probe import Wanted
from mirrors.store import Store


@dataclass(frozen=True)
class ChannelSources:
    """The mirrors of channels, best first.

    Attributes:
        mirrors: whom packages are asked of; empty: all are here, or their channels have no mirrors.
        choices: what was measured.
        rates: in bytes/s by host.
        per_minute: the requests that operators allow, by host.
        reason: why these: a sentence for people.
    """

    mirrors: tuple[Mirror, ...]
    choices: tuple[Choice, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    per_minute: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the best mirror."""
        return self.mirrors[0].id if self.mirrors else "store"

    @property
    def label(self) -> str:
        """For people: the best one's name and address, and how many help it."""
        if not self.mirrors:
            return "the store"
        first, *others = self.mirrors
        beside = f" and {len(others)} more" if others else ""
        return f"{first.id} ({urls.shown(first.url)}){beside}"

    def urls(self, package: CondaPackage) -> tuple[str, ...]:
        """Where the file can be had, best first."""
        below = f"{package.subdir}/{quote(package.filename)}"
        places = [address(mirror, package.channel) for mirror in self.mirrors] or [
            address(_upstream(), package.channel)
        ]
        return tuple(dict.fromkeys(f"{place}/{below}" for place in places))

    def config_files(self) -> dict[str, str]:
        """The environment's own configuration, by file name: for whoever adds packages to it later."""
        base = catalogue.channel_base(self.mirrors[0] if self.mirrors else _upstream())
        return {".condarc": configs.condarc("", base), ".mambarc": configs.mambarc("", base)}


def choose_sources(
    mirror: str, packages: Sequence[CondaPackage], home: Home, http: HttpSettings, *, keep: bool = True
) -> ChannelSources:
    """The mirrors for these packages, measured on the largest one that is missing. Asks nobody where none is.

    What the measuring reads are bytes that are needed; unless `keep` is off they go into the store.

    Raises:
        UnknownMirror, BadMirror: there is no such mirror, or it cannot be used.
        NoMirror: none has the package; says why for each.
    """
    store = Store(home.store)
    lacking = missing(packages, store)
    candidates = catalogue.mirrors("conda", home.user_mirrors)
    if mirror != "auto":
        candidates = (catalogue.find(mirror, "conda", home.user_mirrors),)
    named = [package for package in lacking if "://" not in package.channel]
    if not named:
        return ChannelSources(candidates if mirror != "auto" else (), reason="all packages are here")
    sample = max(named, key=lambda package: package.size or 0)
    amount = sum(package.size or 0 for package in named)
    wanted = Wanted(
        sample.name,
        sample.filename,
        sample.sha256,
        sample.size,
        sample.version,
        address=lambda mirror: f"{address(mirror, sample.channel)}/{sample.subdir}/{quote(sample.filename)}",
    )
    plan = f"conda {sample.sha256[:16]} {' '.join(row.id for row in candidates)}"
    choice = choices.best(home, candidates, wanted, http, amount=amount, plan=plan, keep=keep)
    return ChannelSources(
        tuple(found.mirror for found in choice.sources),
        (choice,),
        rates(choice.sources),
        requests_per_minute(choice.sources),
        choice.reason,
    )


def missing(packages: Sequence[CondaPackage], store: Store) -> list[CondaPackage]:
    """Those that are not in the store."""
    return [package for package in packages if not store.has(package.sha256)]


def none_needed(packages: Sequence[CondaPackage], home: Home) -> ChannelSources:
    """No mirror at all: everything is in the store.

    Raises:
        FetchFailed: it is not.
    """
    lacking = missing(packages, Store(home.store))
    if lacking:
        raise FetchFailed(
            f"{len(lacking)} packages are not in the store: {lacking[0].filename} for one",
            "install once with a network, or from a bundle",
        )
    return ChannelSources((), reason="all packages are here")


def _upstream() -> Mirror:
    return catalogue.find("upstream", "conda")
