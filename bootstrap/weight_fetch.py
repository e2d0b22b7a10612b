"""Fetching a model's files, whose hashes are all known, from the best hubs, and putting its directory together."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap import choices, model_hashes, upstreams
from bootstrap.recorder import Recorder
from bootstrap.state import Home
from mirrors import catalogue, hub
from mirrors.catalogue import Mirror
from mirrors.choose import Choice, rates, requests_per_minute
from mirrors.disk import trouble
from mirrors.fetch import Artifact, Downloads
from mirrors.http import HttpSettings
from mirrors.probe import Measurement, Wanted
from mirrors.store import Store
from runtime.models import INSTALLED, ModelFile, ModelSpec, as_installed


@dataclass(frozen=True)
class Brought:
    """A model that is here now.

    Attributes:
        model: with the size and sha256 of every file.
        per_source: the bytes that each hub (host:port) gave, thrown-away ones included.
    """

    model: ModelSpec
    per_source: Mapping[str, int]

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the bytes came from, most first."""
        return ("bundled",) if self.model.bundled else tuple(self.per_source) or ("store",)


class Fetch:
    """The fetching of one model whose hashes are all known."""

    def __init__(
        self,
        home: Home,
        model: ModelSpec,
        http: HttpSettings,
        on_bytes: Callable[[int], None],
        recorder: Recorder | None,
    ) -> None:
        self._home, self._model, self._on_bytes, self._recorder = home, model, on_bytes, recorder
        self._mirrors = catalogue.mirrors("hub", home.user_mirrors)
        publisher = hub.upstream(self._mirrors)
        self._http = model_hashes.for_model(http, publisher, model) if publisher else http

    def run(self, missing: Sequence[ModelFile], final: Path) -> Brought:
        """Bring the missing files into the store, and all from there into a new directory that becomes `final`.

        Raises:
            MirrorError: a file could not be had, or the disk is full. What came in is kept for the next try.
        """
        hubs = self._hubs(missing)
        received: Counter[str] = Counter()
        everyone = [found for several in hubs.values() for found in several]
        rated = rates(everyone), requests_per_minute(everyone)
        downloads = Downloads(Store(self._home.store), self._http, self._on_bytes, *rated)
        with trouble(final.parent), _staged(final) as staging:
            try:
                with downloads:
                    under_way = {file: downloads.want(*self._offer(file, hubs)) for file in self._model.files}
                    files = []
                    for file, download in under_way.items():
                        fetched = download.result()
                        received.update(fetched.per_source)
                        files.append(replace(file, size=fetched.path.stat().st_size))
                        _link(fetched.path, staging / file.path)
            finally:
                if downloads.dropped:
                    choices.forget(self._home)
                if self._recorder:
                    self._recorder.fetched("weights", downloads)
            (staging / INSTALLED).write_text(as_installed(self._model.id, files), encoding="utf-8")
        return Brought(replace(self._model, known=tuple(files)), dict(received.most_common()))

    def _offer(self, file: ModelFile, hubs: Mapping[str, Sequence[Measurement]]) -> tuple[Artifact, list[str]]:
        """A file of the model, and where it can be had, best first: in our own package or on the hubs."""
        assert file.sha256 is not None
        artifact = Artifact(f"{self._model.id}/{file.path}", file.size, file.sha256)
        if self._model.bundled is not None:
            return artifact, [(self._model.bundled / file.path).as_uri()]
        assert file.origin is not None
        return artifact, [_address(found.mirror, file) for found in hubs.get(file.origin.commit, ())]

    def _hubs(self, missing: Sequence[ModelFile]) -> dict[str, Sequence[Measurement]]:
        """For each repository of which files are missing, the hubs that have it, best first."""
        if self._model.bundled is not None:
            return {}
        groups: dict[str, list[ModelFile]] = {}
        for file in missing:
            assert file.origin is not None
            groups.setdefault(file.origin.commit, []).append(file)
        if self._recorder is None or not groups:
            chosen = {commit: self._best_hubs(files) for commit, files in groups.items()}
        else:
            with self._recorder.phase("weights.choose", "measure the hubs") as measured:
                chosen = {commit: self._best_hubs(files) for commit, files in groups.items()}
                measured.bytes, measured.sources = upstreams.asked([*chosen.values()])
            self._recorder.chose("weights", *chosen.values())
        return {commit: choice.sources for commit, choice in chosen.items()}

    def _best_hubs(self, files: Sequence[ModelFile]) -> Choice:
        """The hubs that have a repository, measured on the largest file that is missing of it."""
        largest, amount = max(files, key=lambda file: file.about), sum(file.about for file in files)
        assert largest.origin is not None
        assert largest.sha256 is not None
        repo = largest.origin.repo
        wanted = Wanted(repo, largest.path, largest.sha256, largest.size, address=lambda one: _address(one, largest))
        plan = f"{self._model.id} {repo} {self._model.digest[:16]}"
        return choices.best(self._home, self._mirrors, wanted, self._http, amount=amount, plan=plan)


def _address(mirror: Mirror, file: ModelFile) -> str:
    origin = file.origin
    assert origin is not None
    repo = origin.modelscope or origin.repo if mirror.layout == "modelscope" else origin.repo
    return catalogue.hub_file(mirror, repo, origin.revision, origin.path)


@contextmanager
def _staged(final: Path) -> Iterator[Path]:
    """A new directory, which takes the place of `final` if the block ends well. What a killed run left goes first."""
    staging = final.with_name(f".{final.name}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
        shutil.rmtree(final, ignore_errors=True)
        staging.replace(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Put a stored file under its own name: a hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
