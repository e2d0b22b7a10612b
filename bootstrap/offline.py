"""What `--offline` needs: everything from the store, uv's cache and local directories, and what is missing by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType

from bootstrap import packages, sourcing, weights, wheels
from bootstrap.backends import uv_cache
from bootstrap.errors import SetupError
from bootstrap.learnt_weights import Entries
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.recipe import Recipe
from bootstrap.request import Request
from bootstrap.state import Home
from mirrors.choose import Choice
from mirrors.http import HttpSettings
from mirrors.tags import supported
from runtime.models import ModelFile, ModelSpec

#: For uv: it fetches no Python either.
ENVIRON = {"UV_PYTHON_DOWNLOADS": "never"}
_HINT = "install once without --offline, or with --bundle from what `i2v-setup bundle` wrote on another machine"
_NAMED = 3  # of what is missing


def sources(
    request: Request,
    here: Machine,
    recipe: Recipe,
    http: HttpSettings,
    home: Home,
    env: Mapping[str, str],
    brings: Set[str] = frozenset(),
) -> PackageSources:
    """The local directories that pip's settings name; a mirror stands in the environment's own configuration only.

    Args:
        request: names that mirror.
        here: the machine.
        recipe: what is to be installed.
        http: the certificates and the proxy for the environment's own configuration.
        home: where the store is.
        env: uv's environment.
        brings: the sha256 of files that will be in the store by then.

    Raises:
        UnknownMirror, BadMirror: there is no such mirror.
        SetupError: packages are missing; says which.
    """
    directories = packages.directories(here.pip)
    unpacked = uv_cache.unpacked(uv_cache.directory(env))
    pins = [pin for pin in recipe.pins() if not pin.sha256s & brings]
    lacking = wheels.missing(home, pins, supported(recipe.python.version), directories, unpacked)
    if lacking:
        names = _some([f"{pin.name} {pin.version}" for pin in lacking])
        raise SetupError(f"{len(lacking)} of {len(recipe.pins())} packages are not in {home.store}: {names}", _HINT)
    named = sourcing.candidates(request.mirror, here.pip, home.user_mirrors)[0]
    reason = "nobody is asked: all packages are on this machine"
    channel = sourcing.conda_channel(named, home.user_mirrors)
    return packages.sources(here.pip, http, Choice(named, reason, ()), None, channel)


def require_model(
    home: Home, model: ModelSpec, brings: Set[str] = frozenset(), told: Entries = MappingProxyType({})
) -> None:
    """Check that a model's files are here, or that their sha256 is among what will be in the store by then.

    Args:
        home: where the store is.
        model: a row.
        brings: those sha256.
        told: what will have been learnt of its files by then.

    Raises:
        SetupError: some are not; says which.
    """
    if model.bundled is not None or weights.present(home, model):
        return

    def comes(file: ModelFile) -> bool:
        if file.origin is None or file.origin not in told:
            return file.sha256 in brings
        entry = told[file.origin]
        return entry is None or entry.sha256 in brings

    lacking = [file.path for file in weights.missing(home, model) if not comes(file)]
    if lacking:
        raise SetupError(
            f"{len(lacking)} of the {len(model.files)} files of {model.id} are not in {home.store}: {_some(lacking)}",
            _HINT,
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
