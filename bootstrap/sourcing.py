"""Chooses where an environment's packages come from: the mirrors are measured on a file that the lock pins.

What the user's own pip settings name is a candidate like the others; what they hold already (a directory of wheels) is
asked of nobody.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from packaging.tags import Tag

from bootstrap import choices, packages, torch_builds, wheels
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.pip_settings import PipSettings
from bootstrap.recipe import Recipe, shipped_lock
from bootstrap.state import Home
from mirrors import catalogue, probe
from mirrors.catalogue import Mirror
from mirrors.choose import Choice
from mirrors.errors import BadMirror, NoMirror, NoTorch
from mirrors.http import CA_VARIABLES, HttpSettings
from mirrors.local import Shelf
from mirrors.lock import Pin
from mirrors.probe import Measurement, Wanted
from mirrors.tags import order, supported
from mirrors.urls import shown

_LINUX = {"sys_platform": "linux", "platform_machine": "x86_64"}
_RESOLVING = 50_000_000  # bytes: roughly what a resolver reads of pages and metadata, and of wheels without any
_SHOWN = "transformers"  # every lock pins it, every mirror has it, and it fits any Python
_PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def ca_bundle(pip: PipSettings) -> Path | None:
    """The certificates that the user wants trusted: the environment's, else pip's; None: the usual ones."""
    named = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), pip.cert)
    return Path(named).expanduser() if named else None


def http_settings(pip: PipSettings) -> HttpSettings:
    """How we speak HTTP: with the user's certificates, and with pip's proxy where the environment names none."""
    proxied = any(os.environ.get(name) for name in _PROXY_VARIABLES)
    proxies = {"http": pip.proxy, "https": pip.proxy} if pip.proxy and not proxied else None
    return HttpSettings(ca_bundle=ca_bundle(pip), proxies=proxies)


def candidates(mirror: str, pip: PipSettings, own: Path) -> tuple[Mirror, ...]:
    """The package indexes to measure: the one that was named, or all that are known, the user's configured one first.

    Raises:
        UnknownMirror, BadMirror: no such mirror, or a URL that cannot be one.
    """
    if mirror != "auto":
        return (catalogue.find(mirror, "pypi", own),)
    return (*_configured(pip), *catalogue.mirrors("pypi", own))


def _configured(pip: PipSettings) -> tuple[Mirror, ...]:
    """The index that pip's settings name; none where it is one that we do not use, such as plain http."""
    try:
        return (catalogue.adhoc(pip.index_url, "configured"),) if pip.index_url else ()
    except BadMirror:
        return ()


def measure(mirrors: Sequence[Mirror], pins: Sequence[Pin], http: HttpSettings) -> list[Measurement]:
    """Measure package indexes to show what they can do. Keeps nothing of what was read."""
    return probe.measure(mirrors, _wanted(_sample(pins, _SHOWN), ()), http)


def choose_sources(
    mirror: str,
    machine: Machine,
    recipe: Recipe,
    http: HttpSettings,
    home: Home,
    *,
    keep: bool = True,
) -> PackageSources:
    """The package sources for a recipe's lock.

    What the measuring reads are bytes that the installation needs; unless `keep` is off they go into the store.

    Raises:
        UnknownMirror, BadMirror: see `candidates`. NoMirror: none can serve the lock; says why for each.
    """
    pins, own, pip = recipe.pins(), home.user_mirrors, machine.pip
    build, python = recipe.build, recipe.python.version
    named, tags = candidates(mirror, pip, own), supported(python)
    torch_pin, builds = _pytorch(pins, pip, tags, own)

    def choice(mirrors: Sequence[Mirror], sample: Pin, amount: int) -> Choice:
        names = f"{recipe.lock.sha256[:16]} {sample.name} {python} {' '.join(row.id for row in mirrors)}"
        return choices.best(home, mirrors, _wanted(sample, tags), http, amount=amount, plan=names, keep=keep)

    def choose() -> tuple[Choice, Choice | None]:
        if pip.no_index:
            raise NoMirror("pip's settings say no-index", "name directories with all locked wheels under find-links")
        index = choice(named, _sample(pins, build.sample), build.index_bytes)
        if torch_pin is None:
            return index, None
        try:
            return index, choice(builds, torch_pin, build.torch_bytes)
        except NoMirror as error:
            try:  # perhaps the package index has torch as well
                return index, choice([index.mirror], torch_pin, build.torch_bytes)
            except NoMirror:
                raise NoTorch(str(error), error.hint) from error

    try:
        index, torch = choose()
    except NoMirror:
        if wheels.at_hand(home, pins, tags, packages.directories(pip)) is None:
            raise
        index, torch = Choice(named[0], "no mirror can be used, and none is needed: all wheels are here", ()), None
    return packages.sources(pip, http, index, torch, conda_channel(index.mirror, own))


def choose_index(mirror: str, machine: Machine, python: str, http: HttpSettings, home: Home) -> PackageSources:
    """The package sources to resolve a user's own requirements from, before there is a lock of them.

    Raises:
        UnknownMirror, BadMirror: see `candidates`. NoMirror: no package index is usable.
    """
    sample = _sample(shipped_lock(torch_builds.find("cpu")).pins(python, _LINUX), _SHOWN)
    named, wanted = candidates(mirror, machine.pip, home.user_mirrors), _wanted(sample, supported(python))
    index = choices.best(home, named, wanted, http, amount=_RESOLVING, plan="", keep=False)
    return packages.sources(machine.pip, http, index, None, None)


def _pytorch(pins: Sequence[Pin], pip: PipSettings, tags: Sequence[Tag], own: Path) -> tuple[Pin | None, list[Mirror]]:
    """What only PyTorch's own indexes have, unless it lies in a local directory, and where it may be had.

    The version says which build it is: 2.13.0+cu126.
    """
    shelf, places = Shelf(pip.find_link_directories()), order(tags)
    built = [pin for pin in pins if "+" in pin.version and shelf.find(pin, places) is None]
    if not built:
        return None, []
    torch = next((pin for pin in built if pin.name == "torch"), built[0])
    variant = torch.version.partition("+")[2]
    return torch, [
        *(catalogue.adhoc(url, shown(url)) for url in pip.extra_index_urls if url.startswith("https:")),
        *(catalogue.with_variant(row, variant) for row in catalogue.mirrors("pytorch", own)),
    ]


def _sample(pins: Sequence[Pin], name: str) -> Pin:
    """What package indexes are measured on: the package of that name, or what a user's own lock has instead.

    Raises:
        NoMirror: the lock pins nothing that a package index has.
    """
    here = [pin for pin in pins if "+" not in pin.version]
    for wanted in (name, "torch", _SHOWN):
        found = next((pin for pin in here if pin.name == wanted), None)
        if found is not None:
            return found
    if not here:
        raise NoMirror("the lock pins no package for this machine", "check the lock and its markers")
    return here[0]


def _wanted(pin: Pin, tags: Sequence[Tag]) -> Wanted:
    return Wanted(pin.name, None, pin.sha256s, version=pin.version, tags=tuple(tags))


def conda_channel(mirror: Mirror, own: Path) -> str:
    """The channels of whoever runs a package index, if they mirror conda too; else the upstream's."""
    known = {row.id: row for row in catalogue.mirrors("conda", own)}
    return catalogue.channel_base(known.get(mirror.id) or known["upstream"])
