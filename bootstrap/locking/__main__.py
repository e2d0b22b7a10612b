"""`python -m bootstrap.locking [--keep-versions]`: makes the locks in runtime/locks anew from runtime/requirements.in.

`cu130.txt` holds what PyPI has (its torch for Linux is the CUDA 13.0 build, for macOS the Metal one). Every other lock
is the same without what only that build requires, but with its own torch and what only that one requires. So all
builds have the same versions of everything else. What cannot be refreshed is kept, and that is said.
"""

from __future__ import annotations

import sys

from bootstrap import recipe, torch_builds
from bootstrap.errors import SetupError
from bootstrap.locking import index, text
from bootstrap.locking import platforms as kept
from bootstrap.locking.builds import UPSTREAM, Build, from_index, platforms_of
from bootstrap.locking.resolve import resolve
from bootstrap.locking.text import Entry
from bootstrap.torch_builds import BUILDS, TorchBuild


def main(keep_versions: bool = False) -> None:
    """Write all locks, and say what could not be refreshed."""
    default = torch_builds.find("cu130")
    every = [platform for build in BUILDS for platform in build.platforms]
    requirements = (recipe.lock_of(default).parents[1] / "requirements.in").read_text(encoding="utf-8")
    present = _present(default) if keep_versions else []
    found = resolve(requirements.splitlines(), index.packages(), every, present)
    torch = next((entry.version for entry in found if entry.name == "torch"), None)
    if torch is None:
        raise SetupError("the requirements name no torch")
    _write(default, _narrowed(found, default), "as the package index published them.")
    common = [entry for entry in found if entry.name != "torch" and not index.CUDA_ONLY.match(entry.name)]
    for build in BUILDS:
        if build.lock != default.lock:
            _other(build, torch, common, keep_versions=keep_versions)


def _other(build: TorchBuild, torch: str, common: list[Entry], *, keep_versions: bool) -> None:
    """The lock of a build whose torch the package index does not have."""
    path = recipe.lock_of(build)
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    own = Build(build, torch)
    required = own.requires()
    if required is None:
        sys.stdout.write(f"kept as it is: {path.name}, since what torch {own.version} requires is not known\n")
        return
    preferred = _present(build) if keep_versions else []
    entries = own.own(required, text.named(present))
    lines = [line for line in required if from_index(line)]
    entries += resolve(lines, index.packages(), build.platforms, preferred) if lines else []
    source = UPSTREAM if own.wheels is not None else text.source_of(present)
    for entry in entries:
        if own.wheels is None and not from_index(str(entry.requirement)):
            what = "kept" if entry.wheels else "not known, to be learnt at the first use"
            sys.stdout.write(f"{path.name}: the hashes of {entry.name} {entry.version}: {what}\n")
    _write(build, _narrowed(common, build) + entries, source)


def _narrowed(entries: list[Entry], build: TorchBuild) -> list[Entry]:
    """The entries that the lock of a build needs, with the wheels for its platforms only."""
    made_for = platforms_of(BUILDS, build.lock)
    narrowed = []
    for entry in entries:
        here = kept.where(entry.requirement.marker, made_for)
        wheels = {name: sha256 for name, sha256 in entry.wheels.items() if kept.fits(name, here)}
        if here:
            narrowed.append(Entry(entry.requirement, wheels))
    return narrowed


def _present(build: TorchBuild) -> list[str]:
    """The versions that the present lock of a build has, as lines."""
    path = recipe.lock_of(build)
    if not path.exists():
        return []
    return [str(requirement) for requirement, _ in text.compiled(path.read_text(encoding="utf-8"))]


def _write(build: TorchBuild, entries: list[Entry], source: str) -> None:
    path = recipe.lock_of(build)
    path.write_text(text.rendered(entries, source), encoding="utf-8")
    sys.stdout.write(f"written: {path}\n")


if __name__ == "__main__":
    main("--keep-versions" in sys.argv[1:])
