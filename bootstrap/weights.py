"""A model's files: fetched into the store, verified, and linked under their own names. All of them or none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock

from bootstrap import model_hashes, units
from bootstrap.model_hashes import known, learn, unlearnt
from bootstrap.recorder import Recorder
from bootstrap.state import Home, writable
from bootstrap.weight_fetch import Brought, Fetch
from mirrors.digest import sha256_of
from mirrors.errors import FetchFailed, MirrorError, NoMirror
from mirrors.http import HttpSettings
from mirrors.store import Store
from runtime.models import INSTALLED, ModelFile, ModelSpec

__all__ = ["Brought", "bring", "directory", "known", "learn", "missing", "present", "told", "unlearnt"]


def directory(home: Home, model: ModelSpec) -> Path:
    """Where the model's files lie under their own names.

    Raises:
        HashesUnknown: it was never installed, and what it is made of is not known yet.
    """
    return home.models / f"{model.id}-{known(home, model).digest[:12]}"


def present(home: Home, model: ModelSpec) -> bool:
    """Whether all files are there in their right sizes (their bytes were checked when they came)."""
    found = known(home, model)
    if not found.complete:
        return False
    at = directory(home, model)
    paths = ((at / file.path, file.size) for file in found.files)
    here = all(path.is_file() and size in (None, path.stat().st_size) for path, size in paths)
    return here and (model.complete or (at / INSTALLED).is_file())


def missing(home: Home, model: ModelSpec) -> tuple[ModelFile, ...]:
    """The files that are not in the store, whether their sha256 is known or not; see `ModelFile.about` for sizes."""
    store = Store(home.store)
    return tuple(file for file in known(home, model).files if file.sha256 is None or not store.has(file.sha256))


def told(home: Home, model: ModelSpec) -> str:
    """What a person should know before a model is fetched: how much it is, its licence, and what is not known."""
    found, to_learn = known(home, model), unlearnt(home, model)
    size = f"{'' if found.exact else 'about '}{units.size(found.weight_bytes)}"
    parts = [f"{len(found.files)} files, {size}, every byte checked against its sha256"]
    if to_learn:
        parts.append(f"{len(to_learn)} sha256 to be learnt first from the hub that publishes them")
    parts.append(f"licence: {model.licence or 'not named by its publisher'}")
    if model.gated is not False:
        parts.append("needs an account that was let in" if model.gated else "may need an account (not known)")
    return "; ".join(parts) + (f". {model.note}" if model.note else "")


def bring(
    home: Home,
    model: ModelSpec,
    http: HttpSettings,
    *,
    on_bytes: Callable[[int], None],
    offline: bool = False,
    say: Callable[[str], None] = lambda _: None,
    recorder: Recorder | None = None,
) -> Brought:
    """Fetch what is missing from the best hubs and put the model's directory together.

    Args:
        home: where it goes.
        model: a row.
        http: how to ask.
        on_bytes: as for Downloads.
        offline: ask nobody: everything has to be in the store.
        say: told what a person should know meanwhile.
        recorder: gets the parts of the phase "weights".

    Raises:
        HubRefused: the publisher wants an account that was let in.
        Changed: a published file is another one than it was.
        MirrorError, SetupError: a file could not be had, or the disk is full. What came in is kept for the next try.
    """
    with FileLock(writable(home.cache) / ".models.lock"):  # an image build and an install may want the same
        found = known(home, model) if offline else _learn(home, model, http, say, recorder)
        _drop_damaged(Store(home.store), found)
        wanted = missing(home, found)
        if offline and wanted and model.bundled is None:
            raise MirrorError(
                f"{len(wanted)} of {len(found.files)} files of {model.id} are not in the store, and nobody may be "
                f"asked (the first is {wanted[0].path})",
                "install once without --offline, or from a bundle",
            )
        try:
            return Fetch(home, found, http, on_bytes, recorder).run(wanted, directory(home, found))
        except (FetchFailed, NoMirror):
            model_hashes.explain(home, model, wanted, http)
            raise


def _learn(
    home: Home, model: ModelSpec, http: HttpSettings, say: Callable[[str], None], recorder: Recorder | None
) -> ModelSpec:
    if not unlearnt(home, model):
        return known(home, model)
    with recorder.phase("weights.learn", "learn the files' sha256") if recorder else nullcontext():
        return learn(home, model, http, say)


def _drop_damaged(store: Store, model: ModelSpec) -> None:
    """Read again what is in the store: a bad disk, or a hand, may have changed it since it came."""
    for file in model.files:
        if file.sha256 and store.has(file.sha256) and sha256_of(store.path(file.sha256)) != file.sha256:
            store.remove(file.sha256)
