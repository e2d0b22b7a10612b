"""The step that takes a bundle into the store: every byte is checked again, and files are linked where that can be.

A bundle may come from anybody. What it says of its own model's files is learnt, as said by this bundle, since whoever
installs it wants that; what it says of other models is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from packaging.utils import parse_wheel_filename

from bootstrap import learnt_weights, wheels
from bootstrap.bundles import manifest
from bootstrap.bundles.manifest import Bundle, Entry
from bootstrap.execute import Work, perform
from bootstrap.learnt_weights import Learnt
from bootstrap.plan import Step
from bootstrap.report import LOCAL
from bootstrap.room import Need, same_disk
from bootstrap.state import Home
from mirrors.artifact import Artifact
from mirrors.resolve import Wheel
from mirrors.store import Mismatch, Store
from mirrors.tags import supported
from runtime.models import ModelSpec, Origin

LEARNT = "weights-lock.json"


@dataclass(frozen=True)
class TakeBundle(Step):
    """A bundle's files, into the store."""

    bundle: Bundle


def step(home: Home, bundle: Bundle) -> TakeBundle:
    """What is to be done with a bundle before anything is installed from it."""
    store = Store(home.store)
    lacking = sum(entry.size for entry in _files(bundle) if not store.path(entry.sha256).is_file())
    room = 0 if same_disk(bundle.directory, home.store) else lacking
    detail = f"{len(bundle.files)} files, {bundle.size / 1e6:.1f} MB, every byte checked against its sha256"
    needs = (Need(home.store, room, "the bundle's files"),)
    return TakeBundle("bundle", f"take in {bundle.directory}", detail, bundle, needs=needs)


@perform.register
def _(step: TakeBundle, work: Work) -> None:
    bundle, home, done = step.bundle, work.site.home, 0
    store, wanted = Store(home.store), list(_files(bundle))
    total = sum(entry.size for entry in wanted)
    for entry in wanted:
        work.task.say(entry.path)
        try:
            store.add(bundle.path(entry), entry.sha256)
        except Mismatch as error:
            raise manifest.tampered(bundle, entry) from error
        done += entry.size
        work.task.at(done, total)
    work.measured.bytes, work.measured.sources = total, {LOCAL: total}
    wheels.learn(home, supported(bundle.python), [_wheel(entry) for entry in bundle.below("wheels")])
    _learn(bundle, work)


def learnt(bundle: Bundle, model: ModelSpec) -> Mapping[Origin, Learnt | None]:
    """What a bundle says of those files of a model whose sha256 does not come with us.

    Raises:
        SetupError: its lock is not what was written, or is no lock.
    """
    entry = next((entry for entry in bundle.files if entry.path == LEARNT), None)
    if entry is None:
        return {}
    manifest.require_bytes(bundle, entry)
    told, source = learnt_weights.read(bundle.path(entry)), f"the bundle {manifest.digest(bundle)[:12]}"
    today, found = datetime.now(timezone.utc).date().isoformat(), dict[Origin, Learnt | None]()
    for file in model.files:
        if file.origin is None or file.sha256 is not None or file.origin not in told:
            continue
        row = told[file.origin]
        if row is not None and row.sha256 in bundle.brings:
            found[file.origin] = Learnt(row.size, row.sha256, source, today)
        elif row is None and file.optional:
            found[file.origin] = None
    return found


def _learn(bundle: Bundle, work: Work) -> None:
    home, model = work.site.home, work.plan.model
    known = learnt_weights.read(home.weights_lock)
    found = learnt(bundle, model)
    learnt_weights.add(home.weights_lock, found)
    if new := [origin for origin in found if origin not in known]:
        work.site.console.say(
            f"of {len(new)} of the {len(model.files)} files of {model.id} the sha256 is the bundle's word, written to "
            f"{home.weights_lock}: they are checked against it from now on"
        )


def _files(bundle: Bundle) -> list[Entry]:
    """What goes into the store."""
    return [*bundle.below("wheels"), *bundle.below("models")]


def _wheel(entry: Entry) -> Wheel:
    filename = entry.path.rpartition("/")[2]
    project, version, _, _ = parse_wheel_filename(filename)
    return Wheel(project, str(version), filename, Artifact(filename, entry.size, entry.sha256), ())
