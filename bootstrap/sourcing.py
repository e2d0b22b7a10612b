"""Chooses where an environment's packages come from: the mirrors are measured on a file that the lock pins.

What the user's own pip settings name is a candidate like the others; what they hold already (a directory of wheels) is
asked of nobody.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bootstrap import choices, generations, packages, plan, wheels
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.pip_settings import PipSettings
from bootstrap.state import Home
from bootstrap.torch_builds import TorchBuild
from mirrors import catalogue, lock, probe
from mirrors.catalogue import Mirror
from mirrors.choose import Choice
from mirrors.errors import BadMirror, NoMirror
from mirrors.http import CA_VARIABLES, HttpSettings
from mirrors.lock import Pin
from mirrors.probe import Measurement, Wanted
from mirrors.tags import supported

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
    return probe.measure(mirrors, _wanted(pins, _SHOWN, None), http)


def choose_sources(
    mirror: str,
    machine: Machine,
    build: TorchBuild,
    python: str,
    http: HttpSettings,
    home: Home,
    *,
    keep: bool = True,
) -> PackageSources:
    """The package sources for a build's lock and a Python version.

    What the measuring reads are bytes that the installation needs; unless `keep` is off they go into the store.

    Raises:
        UnknownMirror, BadMirror: see `candidates`. NoMirror: none can serve the lock; says why for each.
    """
    pins, own, pip = plan.pins(build, python), home.user_mirrors, machine.pip
    local = lock.local_wheels(_named(pins, "torch"), pip.find_link_directories(), python)
    lock_digest = generations.of(home, build, python).lock_sha256
    named = candidates(mirror, pip, own)

    def choice(mirrors: Sequence[Mirror], sample: str, amount: int) -> Choice:
        names = f"{lock_digest[:16]} {python} {' '.join(row.id for row in mirrors)}"
        wanted = _wanted(pins, sample, python)
        return choices.best(home, mirrors, wanted, http, amount=amount, plan=names, keep=keep)

    def choose() -> tuple[Choice, Choice | None]:
        if pip.no_index:
            raise NoMirror("pip's settings say no-index", "name directories with all locked wheels under find-links")
        index = choice(named, build.sample, build.index_bytes)
        if local or not build.torch_bytes:
            return index, None
        builds = [catalogue.with_variant(row, build.id) for row in catalogue.mirrors("pytorch", own)]
        try:
            return index, choice(builds, "torch", build.torch_bytes)
        except NoMirror:
            if mirror == "auto":
                raise
            return index, None  # perhaps the index that was named has torch as well

    try:
        index, torch = choose()
    except NoMirror:
        if wheels.at_hand(home, pins, supported(python), packages.directories(pip)) is None:
            raise
        index, torch = Choice(named[0], "no mirror can be used, and none is needed: all wheels are here", ()), None
    return packages.sources(pip, http, index, torch, _conda_channel(index, own))


def _named(pins: Sequence[Pin], name: str) -> list[Pin]:
    return [pin for pin in pins if pin.name == name]


def _wanted(pins: Sequence[Pin], name: str, python: str | None) -> Wanted:
    pin = _named(pins, name)[0]
    tags = supported(python) if python else ()
    return Wanted(pin.name, None, pin.sha256s, version=pin.version, tags=tags)


def _conda_channel(index: Choice, own: Path) -> str:
    """The channels of whoever runs the chosen index, if they mirror conda too; else the upstream's."""
    known = {row.id: row for row in catalogue.mirrors("conda", own)}
    return catalogue.channel_base(known.get(index.mirror.id) or known["upstream"])
