"""A model's files: fetched into the store, verified, and linked under their own names. All of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from bootstrap.state import Home, writable
from mirrors import catalogue
from mirrors.digest import sha256_of
from mirrors.fetch import Artifact, Fetched, fetch
from mirrors.http import HttpSettings
from mirrors.store import Store
from runtime.models import ModelFile, ModelSpec


def directory(home: Home, model: ModelSpec) -> Path:
    """Where the model's files lie under their own names."""
    return home.models / f"{model.id}-{model.digest[:12]}"


def present(home: Home, model: ModelSpec) -> bool:
    """Whether all files are there in their right sizes (their bytes were checked when they came)."""
    paths = ((directory(home, model) / file.path, file.size) for file in model.files)
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def bring(
    home: Home,
    model: ModelSpec,
    http: HttpSettings,
    *,
    on_file: Callable[[str], None],
    on_bytes: Callable[[int], None],
) -> tuple[str, ...]:
    """Fetch what is missing and put the model's directory together; where the bytes came from.

    Raises:
        MirrorError: a file could not be had, or the disk is full. What came in is kept for the next try.
    """
    store, final = Store(home.store), directory(home, model)
    sources: dict[str, None] = {}
    with FileLock(writable(home.cache) / ".models.lock"):  # an image build and an install may want the same
        staging = final.with_name(f".{final.name}")  # also what a killed run left
        shutil.rmtree(staging, ignore_errors=True)
        try:
            for file in model.files:
                on_file(file.path)
                fetched = _fetch(model, file, home, store, http, on_bytes)
                sources[fetched.source] = None
                _link(fetched.path, staging / file.path)
            shutil.rmtree(final, ignore_errors=True)
            staging.replace(final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return ("bundled",) if model.bundled else tuple(dict.fromkeys(urlsplit(url).netloc or url for url in sources))


def _fetch(
    model: ModelSpec, file: ModelFile, home: Home, store: Store, http: HttpSettings, on_bytes: Callable[[int], None]
) -> Fetched:
    """The file in the store. One that was there is read again: a bad disk, or a hand, may have changed it since."""
    artifact = Artifact(f"{model.id}/{file.path}", file.size, file.sha256)
    addresses = _addresses(model, file, home)
    fetched = fetch(artifact, addresses, store, http, on_bytes)
    if fetched.source == "store" and sha256_of(fetched.path) != file.sha256:
        fetched.path.unlink()
        fetched = fetch(artifact, addresses, store, http, on_bytes)
    return fetched


def _addresses(model: ModelSpec, file: ModelFile, home: Home) -> list[str]:
    """Where a model's file can be had: in our own package, or on the hubs, the upstream first."""
    if model.bundled is not None:
        return [(model.bundled / file.path).as_uri()]
    assert model.repo is not None
    assert model.revision is not None
    hubs = catalogue.mirrors("hub", home.user_mirrors)
    return [catalogue.hub_file(hub, model.repo, model.revision, file.path) for hub in hubs]


def _link(source: Path, target: Path) -> None:
    """Put a stored file under its own name: a hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
