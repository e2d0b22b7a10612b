"""What `--offline` needs: everything from the store, uv's cache and local directories, and what is missing by name."""

from __future__ import annotations

from collections.abc import Mapping, Set

from bootstrap import packages, sourcing, weights, wheels
from bootstrap.backends import uv_cache
from bootstrap.errors import SetupError
from bootstrap.machine import Machine
from bootstrap.packages import PackageSources
from bootstrap.recipe import Recipe
from bootstrap.request import Request
from bootstrap.state import Home
from mirrors.choose import Choice
from mirrors.http import HttpSettings
from mirrors.tags import supported
from runtime.models import ModelSpec

#: For uv: it fetches no Python either.
ENVIRON = {"UV_PYTHON_DOWNLOADS": "never"}
_HINT = "install once without --offline, or with --bundle from what `i2v-setup bundle` wrote on another machine"


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
        names = ", ".join(f"{pin.name} {pin.version}" for pin in lacking)
        raise SetupError(f"{len(lacking)} of {len(recipe.pins())} packages are not on this machine: {names}", _HINT)
    named = sourcing.candidates(request.mirror, here.pip, home.user_mirrors)[0]
    reason = "nobody is asked: all packages are on this machine"
    channel = sourcing.conda_channel(named, home.user_mirrors)
    return packages.sources(here.pip, http, Choice(named, reason, ()), None, channel)


def require_model(home: Home, model: ModelSpec, brings: Set[str] = frozenset()) -> None:
    """Check that a model's files are here, or `brings` has their sha256.

    Raises:
        SetupError: some are not; says which.
    """
    if model.bundled is not None or weights.present(home, model):
        return
    lacking = [file for file in weights.missing(home, model) if file.sha256 not in brings]
    if lacking:
        names = ", ".join(file.path for file in lacking)
        raise SetupError(f"{len(lacking)} files of {model.id} are not on this machine: {names}", _HINT)
