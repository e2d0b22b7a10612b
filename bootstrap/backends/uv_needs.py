"""The disk that an environment of uv's takes: what is here already is not counted again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bootstrap import room
from bootstrap.backends import uv_cache
from bootstrap.recipe import Recipe
from bootstrap.room import Need
from bootstrap.state import Home
from mirrors import tags
from mirrors.local import Shelf
from mirrors.store import Store

_BYTECODE = 0.08  # of what is installed; what is imported is compiled


def needs(
    home: Home, recipe: Recipe, directories: Iterable[Path], cache: Path, *, fetches: bool = True
) -> tuple[Need, ...]:
    """What the packages take, at most.

    Sizes are the build's, of which the shares are taken off that are in the store, in uv's cache or in a directory.

    Args:
        home: where the store and the environments are.
        recipe: what is installed.
        directories: local ones that have wheels.
        cache: uv's.
        fetches: whether anything is fetched into the store at all.
    """
    build, store = recipe.build, Store(home.store)
    fetched, installed = build.index_bytes + build.torch_bytes, build.installed_bytes
    share, unpacked, shelf = fetched / installed, uv_cache.unpacked(cache), Shelf(directories)
    places = tags.order(tags.supported(recipe.python.version))
    to_fetch, to_unpack, lacking = fetched, installed, 0
    for pin in recipe.pins():
        records = unpacked.get((pin.name, pin.version))
        size = uv_cache.length(records) if records else 0
        to_unpack -= size
        here = sum(store.path(sha256).stat().st_size for sha256 in pin.sha256s if store.path(sha256).is_file())
        here = here or sum(path.stat().st_size for path in shelf.candidates(pin, places)[:1])
        to_fetch -= here or int(size * share)
        lacking += not records
    linked = room.same_disk(cache, home.environments)
    return (
        Need(home.store, max(0, to_fetch) if lacking and fetches else 0, "wheels"),
        Need(cache, max(0, to_unpack) if lacking else 0, "unpacked packages"),
        Need(home.environments, int(installed * (_BYTECODE if linked else 1 + _BYTECODE)), "the environment"),
    )
