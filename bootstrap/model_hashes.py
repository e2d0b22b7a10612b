"""Which bytes a model is made of: what its manifest says, what the user's lock says, and what the upstream hub says.

The manifest's sha256 stand, whatever anybody says. What it leaves open is learnt from the upstream hub the first time,
said so, written to the user's lock, and never taken from a mirror. Where the hub cannot be reached, the manifest's
likely sha256 do, if it has one for every file. Fetches no weights.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from bootstrap import learnt_weights
from bootstrap.errors import SetupError
from bootstrap.learnt_weights import Changed, Learnt
from bootstrap.state import Home, writable
from mirrors import catalogue, hub, hub_token
from mirrors.catalogue import Mirror
from mirrors.disk import trouble
from mirrors.errors import HubRefused, MirrorError, NoMirror, Unreachable
from mirrors.http import HttpSettings
from mirrors.hub import Published
from mirrors.store import Store
from mirrors.urls import shown
from runtime.models import ModelFile, ModelSpec, Origin

_AT_ONCE = 8  # small files that are asked for at the same time

Say = Callable[[str], None]


def known(home: Home, model: ModelSpec) -> ModelSpec:
    """The model with all that is known of its files here. Asks nobody.

    Raises:
        SetupError: the user's lock cannot be read, or contradicts the manifest.
    """
    if model.complete and model.exact:
        return model
    learnt = learnt_weights.read(home.weights_lock)
    files = (_known(file, learnt, home.weights_lock) for file in model.files)
    return replace(model, known=tuple(file for file in files if file is not None))


def unlearnt(home: Home, model: ModelSpec) -> tuple[ModelFile, ...]:
    """The files whose sha256 neither the manifest nor the user's lock has."""
    if model.complete:
        return ()
    learnt = learnt_weights.read(home.weights_lock)
    return tuple(file for file in model.files if file.sha256 is None and file.origin not in learnt)


def learn(home: Home, model: ModelSpec, http: HttpSettings, say: Say) -> ModelSpec:
    """The model with the sha256 of every file, asking the upstream hub for those that are not known.

    Raises:
        Changed: the hub has other bytes than before, or than the manifest says.
        HubRefused: it wants another account than ours.
        SetupError, MirrorError: a sha256 cannot be learnt now; says what to do.
    """
    wanted = unlearnt(home, model)
    if not wanted:
        return known(home, model)
    try:
        publisher = _publisher(home)
        asked = _Asked(publisher, for_model(http, publisher, model), home)
        by_commit: dict[str, list[Origin]] = defaultdict(list)
        for file in wanted:
            assert file.origin is not None
            by_commit[file.origin.commit].append(file.origin)
        for origins in by_commit.values():
            found = asked.about(origins, model)
            learnt_weights.add(home.weights_lock, found)
            say(
                f"learnt the sha256 of {_files(found)} of {origins[0].repo} from {publisher.name} and wrote them to "
                f"{home.weights_lock}: they are checked from now on"
            )
    except (Unreachable, NoMirror, HubRefused) as error:
        return _without_the_hub(home, model, error, say)
    return known(home, model)


def for_model(http: HttpSettings, publisher: Mirror, model: ModelSpec) -> HttpSettings:
    """How to ask for a model's files: with the user's token, where an account may be needed."""
    return http if model.gated is False else hub_token.signed_in(http, publisher)


def explain(home: Home, model: ModelSpec, files: Sequence[ModelFile], http: HttpSettings) -> None:
    """Nobody gave us these files: find out whether the hub refuses them, or has other ones than we know.

    Raises:
        HubRefused: it refuses.
        Changed: it has other ones.
    """
    try:
        publisher = _publisher(home)
        http = for_model(http, publisher, model)
        firsts = {file.origin.commit: file.origin for file in files if file.origin is not None}
        for first in firsts.values():
            hub.require_access(publisher, first.repo, first.revision, first.path, http)
            listing = hub.listing(publisher, first.repo, first.revision, http)
            for file in model.files:
                if file.origin is not None and file.origin.commit == first.commit:
                    _require_as_known(home, file, listing.get(file.origin.path), publisher)
    except (HubRefused, Changed):
        raise
    except MirrorError:
        return  # then what is known already has to do


def _publisher(home: Home) -> Mirror:
    found = hub.upstream(catalogue.mirrors("hub", home.user_mirrors))
    if found is None:
        raise NoMirror(
            f"no hub is marked as the one where models are published: see {home.user_mirrors}",
            "give the row `upstream` the line `upstream: true` and `layout: huggingface`, or remove it",
        )
    return found


def _known(file: ModelFile, learnt: learnt_weights.Entries, path: Path) -> ModelFile | None:
    """A file with what was learnt of it; None: the repository has no such file, and the model does without."""
    if file.origin is None or file.origin not in learnt:
        return replace(file, sha256=file.sha256 or file.likely)
    entry = learnt[file.origin]
    if entry is None:
        if file.optional:
            return None
        raise SetupError(f"{path} says that {file.origin.repo} has no {file.origin.path}", "remove that line")
    if file.sha256 not in (None, entry.sha256):
        raise Changed(
            f"{path} has another sha256 for {file.origin.path} of {file.origin.repo} than this version of i2v-setup",
            "find out why before you use it; to go by this version, remove that line",
        )
    return replace(file, size=entry.size, sha256=entry.sha256, optional=False)


def _without_the_hub(home: Home, model: ModelSpec, error: MirrorError, say: Say) -> ModelSpec:
    found = known(home, model)
    if found.complete:
        files = _files(unlearnt(home, model))
        say(f"{error}; so public lists vouch for the sha256 of {files} of {model.id}")
        return found
    if isinstance(error, HubRefused):
        raise error
    open_ = [file.path for file in found.files if file.sha256 is None]
    raise SetupError(
        f"the sha256 of {_files(open_)} of {model.id} is not known (the first is {open_[0]}), only the hub that "
        f"publishes the model may say it, and {error}",
        f"reach it once (HTTPS_PROXY is heeded), or copy {home.weights_lock.name} into {home.weights_lock.parent} from "
        "a machine that has installed this model, or choose one of which `i2v-setup models` says that all is known",
    ) from error


def _require_as_known(home: Home, file: ModelFile, found: Published | None, publisher: Mirror) -> None:
    """The hub must not list another file than the manifest, or the user's lock, has.

    Raises:
        Changed: it does.
    """
    assert file.origin is not None
    learnt = learnt_weights.read(home.weights_lock).get(file.origin)
    sha256 = learnt.sha256 if learnt else file.sha256
    if sha256 is None or (found is not None and found.sha256 is None):
        return  # nothing is known, or the file is small: the listing says no sha256 of it
    size = found.size if found else 0
    then = learnt or Learnt(file.size or size, sha256, "this version of i2v-setup", "its release")
    now = Learnt(size, found.sha256 or "", shown(publisher.url), _today()) if found else None
    learnt_weights.require_same(home.weights_lock, file.origin, then, now)


@dataclass(frozen=True)
class _Asked:
    """The upstream hub, as it is asked in one run."""

    publisher: Mirror
    http: HttpSettings
    home: Home

    def about(self, origins: Sequence[Origin], model: ModelSpec) -> dict[Origin, Learnt | None]:
        """What the hub says of these files of one commit; small ones are in the store afterwards."""
        repo, revision = origins[0].repo, origins[0].revision
        listing = hub.listing(self.publisher, repo, revision, self.http)
        mine = {file.origin: file for file in model.files if file.origin and file.origin.commit == origins[0].commit}
        for origin, file in mine.items():
            _require_as_known(self.home, file, listing.get(origin.path), self.publisher)
        missing = [origin for origin in origins if origin.path not in listing]
        needed = [origin.path for origin in missing if not mine[origin].optional]
        if needed:
            raise SetupError(
                f"{self.publisher.name} has no {needed[0]} in {repo} at {revision[:8]}",
                "choose another model; this version of i2v-setup is wrong about this one",
            )
        sizes = [origin for origin, file in mine.items() if file.sha256 is not None and file.size is None]
        present = [origin for origin in (*origins, *sizes) if origin.path in listing]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            learnt = list(pool.map(lambda origin: self._learn(origin, listing[origin.path]), present))
        return {**dict.fromkeys(missing), **dict(zip(present, learnt, strict=True))}

    def _learn(self, origin: Origin, found: Published) -> Learnt:
        sha256 = found.sha256
        if sha256 is None:
            content = hub.small_file(self.publisher, origin.repo, origin.revision, found, self.http)
            sha256 = hashlib.sha256(content).hexdigest()
            self._keep(content)
        return Learnt(found.size, sha256, shown(self.publisher.url), _today())

    def _keep(self, content: bytes) -> None:
        cache = writable(self.home.cache)
        with trouble(cache), tempfile.NamedTemporaryFile(dir=cache, suffix=".tmp") as file:
            file.write(content)
            file.flush()
            Store(self.home.store).add(Path(file.name))


def _files(files: Sized) -> str:
    return f"{len(files)} file{'s' * (len(files) != 1)}"


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
