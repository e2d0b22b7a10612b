"""What mirrors are measured on, by kind: a pinned file that everyone who uses them needs, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bootstrap import recipe, sourcing
from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine
from bootstrap.torch_builds import TorchBuild
from mirrors import catalogue, index, lock, probe
from mirrors.catalogue import Kind, Mirror
from mirrors.errors import MirrorError
from mirrors.http import HttpSettings
from mirrors.lock import Pin
from mirrors.probe import Measurement, Wanted

# A package that does not change, is not small, and is part of every conda environment that can draw text.
_CONDA_FILE = "font-ttf-ubuntu-0.83-h77eed37_3.conda"
_CONDA_SHA256 = "2821ec1dc454bd8b9a31d0ed22a7ce22422c0aef163c59f49dfdf915d0f0ca14"
_CONDA_SIZE = 1_620_504
_LISTING_SECONDS = 4.0


def kind_of(name: str) -> Kind:
    """A kind of mirror by its name.

    Raises:
        UsageProblem: there is no such kind.
    """
    for kind in catalogue.KINDS:
        if kind == name:
            return kind
    raise UsageProblem(f"there is no kind of mirror called {name!r}", f"known: {', '.join(catalogue.KINDS)}")


def candidates(kind: Kind, which: str, here: Machine, build: TorchBuild, own: Path) -> tuple[Mirror, ...]:
    """The mirrors of a kind to measure: the one that was named by id or URL, or with "auto" all that are known.

    Raises:
        UnknownMirror, BadMirror: there is no such mirror, or it cannot be used.
    """
    if kind == "pypi":
        return sourcing.candidates(which, here.pip, own)
    found = catalogue.mirrors(kind, own) if which == "auto" else (catalogue.find(which, kind, own),)
    return tuple(catalogue.with_variant(mirror, _variant(kind, here, build)) for mirror in found)


def measure(kind: Kind, mirrors: Sequence[Mirror], build: TorchBuild, http: HttpSettings) -> list[Measurement]:
    """Measure mirrors of one kind: on a file of the build's lock, or on whether they answer. Keeps nothing."""
    pins = recipe.shipped_lock(build).pins(build.pythons[0])
    if kind == "pypi":
        return sourcing.measure(mirrors, pins, http)
    if kind == "pytorch":
        return probe.measure(mirrors, _torch(pins, build, http), http)
    return probe.measure(mirrors, _CONDA if kind == "conda" else None, http)


def torch_variant(build: TorchBuild) -> str:
    """The name of a build where PyTorch's own index has it: there the wheels for Apple machines are among the CPU's."""
    return "cpu" if build.id == "mps" else build.id


def _variant(kind: Kind, here: Machine, build: TorchBuild) -> str:
    if kind == "pytorch":
        return torch_variant(build)
    return "ubuntu" if "ubuntu" in here.release.lower() else "debian"


def _torch(pins: Sequence[Pin], build: TorchBuild, http: HttpSettings) -> Wanted | None:
    """PyTorch itself. Where the lock has it from the package index, its own wheels have other hashes: upstream's.

    None where those cannot be had.
    """
    pin = next((pin for pin in pins if pin.name == "torch"), None)  # none where its hashes are learnt at the first use
    if pin is not None and build.torch_bytes:
        return Wanted(pin.name, None, pin.sha256s, version=pin.version)
    variant = torch_variant(build)
    version = f"{pin.version}+{variant}" if pin else _to_learn(build)
    wanted = Wanted("torch", None, frozenset(), version=version)
    upstream = catalogue.with_variant(catalogue.find("upstream", "pytorch"), variant)
    try:
        page = index.get_page(upstream, "torch", http, _LISTING_SECONDS)
        hashes = frozenset(file.sha256 for file in index.files(page, "torch", wanted.is_named) if file.sha256)
    except MirrorError:
        return None
    return Wanted("torch", None, hashes, version=version) if hashes else None


def _to_learn(build: TorchBuild) -> str:
    torch = next(found for found in lock.to_learn(recipe.lock_of(build)) if found.name == "torch")
    return next(iter(torch.specifier)).version


def _conda_file(mirror: Mirror) -> str:
    return f"{catalogue.channel_base(mirror)}/conda-forge/noarch/{_CONDA_FILE}"


_CONDA = Wanted("conda-forge", _CONDA_FILE, _CONDA_SHA256, _CONDA_SIZE, address=_conda_file)
