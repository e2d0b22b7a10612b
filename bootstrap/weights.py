"""A model's files: fetched into the store, verified, and linked under their own names. All of them or none."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from bootstrap import choices
from bootstrap.state import Home, writable
from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.choose import rates, requests_per_minute
from mirrors.digest import sha256_of
from mirrors.fetch import Artifact, Downloads
from mirrors.http import HttpSettings
from mirrors.probe import Measurement, Wanted
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
    on_bytes: Callable[[int], None],
) -> tuple[str, ...]:
    """Fetch what is missing from the best hubs and put the model's directory together; where the bytes came from.

    Raises:
        MirrorError: a file could not be had, or the disk is full. What came in is kept for the next try.
    """
    store, final = Store(home.store), directory(home, model)
    with FileLock(writable(home.cache) / ".models.lock"):  # an image build and an install may want the same
        _drop_damaged(store, model)
        hubs = _hubs(model, home, store, http)
        staging = final.with_name(f".{final.name}")  # also what a killed run left
        shutil.rmtree(staging, ignore_errors=True)
        received: Counter[str] = Counter()
        try:
            with Downloads(store, http, on_bytes, rates(hubs), requests_per_minute(hubs)) as downloads:
                under_way = {file: downloads.want(*_offer(model, file, hubs)) for file in model.files}
                for file, download in under_way.items():
                    fetched = download.result()
                    received.update(fetched.per_source)
                    _link(fetched.path, staging / file.path)
                if downloads.dropped:
                    choices.forget(home)
            shutil.rmtree(final, ignore_errors=True)
            staging.replace(final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return ("bundled",) if model.bundled else tuple(host for host, _ in received.most_common()) or ("store",)


def _drop_damaged(store: Store, model: ModelSpec) -> None:
    """Read again what is in the store: a bad disk, or a hand, may have changed it since it came."""
    for file in model.files:
        if store.has(file.sha256) and sha256_of(store.path(file.sha256)) != file.sha256:
            store.remove(file.sha256)


def _offer(model: ModelSpec, file: ModelFile, hubs: Sequence[Measurement]) -> tuple[Artifact, list[str]]:
    """A file of the model, and where it can be had, best first: in our own package or on the hubs."""
    artifact = Artifact(f"{model.id}/{file.path}", file.size, file.sha256)
    if model.bundled is not None:
        return artifact, [(model.bundled / file.path).as_uri()]
    return artifact, [_address(found.mirror, model, file.path) for found in hubs]


def _hubs(model: ModelSpec, home: Home, store: Store, http: HttpSettings) -> Sequence[Measurement]:
    """The hubs to fetch from, best first; none where nothing is to be fetched."""
    missing = [file for file in model.files if not store.has(file.sha256)]
    return _best_hubs(model, missing, home, http) if missing and model.bundled is None else ()


def _best_hubs(model: ModelSpec, missing: Sequence[ModelFile], home: Home, http: HttpSettings) -> Sequence[Measurement]:
    """The hubs that have the model, measured on its largest file."""
    assert model.repo is not None
    largest, amount = max(missing, key=lambda file: file.size), sum(file.size for file in missing)

    def address(hub: Mirror) -> str:
        return _address(hub, model, largest.path)

    wanted = Wanted(model.repo, largest.path, largest.sha256, largest.size, address=address)
    hubs = catalogue.mirrors("hub", home.user_mirrors)
    return choices.best(home, hubs, wanted, http, amount=amount, plan=f"{model.id} {model.digest[:16]}").sources


def _address(hub: Mirror, model: ModelSpec, path: str) -> str:
    assert model.repo is not None
    assert model.revision is not None
    return catalogue.hub_file(hub, model.repo, model.revision, path)


def _link(source: Path, target: Path) -> None:
    """Put a stored file under its own name: a hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
