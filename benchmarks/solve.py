"""How long a solve takes: conda's classic solver, mamba (libmamba) and py-rattler, on the same channel and wishes.

The field says that mamba solves 4 to 7 times faster than conda. What is measured here is the whole command with a dry
run, from a channel on the disk, so no network is in it. The channel is made up: thousands of packages with tens of
versions each, whose dependencies are bounded as those of conda-forge are (a floor, sometimes a ceiling at a later
major version, an interpreter for each build). conda comes out of conda-lock, with its classic solver; mamba and
micromamba are measured where they are installed, since no package index has them.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness import Row, alternate, main
from bootstrap.backends.conda import rattler
from bootstrap.backends.conda.family import Program
from tests.conda_programs import CannotBeHad, made_conda

_SUBDIR = "linux-64"
_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_BASIS = 150  # packages that many others need
_WISHES = 12  # packages that are asked for, the newest of all
_ENVIRON = {"CONDA_OVERRIDE_CUDA": ""}
_CLAIM = "claimed: 4 to 7 x"


@dataclass(frozen=True)
class Made:
    """A channel on the disk, how many records it has, and what is wished from it."""

    url: str
    records: int
    wishes: tuple[str, ...]


def make_channel(directory: Path, packages: int, seed: int = 7) -> Made:
    """A channel in which packages depend on earlier ones, as these were when they were released."""
    dice = random.Random(seed)
    rows: dict[str, dict[str, Any]] = {}
    for number, python in enumerate(_PYTHONS):
        _add(rows, "python", f"{python}.{dice.randint(2, 12)}", "0_cpython", [], 1_500_000_000 + number * 30_000_000)
    _add(rows, "pip", "25.0", "pyh_0", ["python >=3.9"], 1_600_000_000)  # which mamba wants where Python is
    names = [f"package{number:04}" for number in range(packages)]
    releases: dict[str, list[tuple[int, str]]] = {}
    for place, name in enumerate(names):
        needed = _needed(dice, names, place)
        releases[name] = _releases(dice)
        for when, version in releases[name]:
            depends = [bound for other in needed if (bound := _bound(dice, other, releases[other], when))]
            if dice.random() < 0.4:
                _add(rows, name, version, "pyh_0", [*depends, "python >=3.9"], when)
                continue
            for python in _PYTHONS[_first(when) : _first(when) + 3]:
                _add(rows, name, version, f"py{python.replace('.', '')}_0", [*depends, f"python {python}.*"], when)
    wishes = ("python 3.11.*", *sorted(dice.sample(names[-packages // 4 :], _WISHES)))
    for subdir, content in ((_SUBDIR, rows), ("noarch", {})):
        (directory / subdir).mkdir(parents=True)
        document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": content, "repodata_version": 1}
        (directory / subdir / "repodata.json").write_text(json.dumps(document), encoding="utf-8")
    return Made(directory.as_uri(), len(rows), wishes)


def _needed(dice: random.Random, names: Sequence[str], place: int) -> list[str]:
    """What a package depends on: some of the few that many depend on, sometimes one of those made shortly before it."""
    many = names[: min(place, _BASIS)]
    found = dice.sample(many, min(len(many), dice.randint(0, 3 if place < _BASIS else 5)))
    near = names[max(_BASIS, place - 20) : place]
    return found + ([dice.choice(near)] if near and dice.random() < 0.5 else [])


def _releases(dice: random.Random) -> list[tuple[int, str]]:
    """When a package was released, in seconds, and as which version."""
    when, major, minor, found = 1_500_000_000 + dice.randint(0, 40_000_000), dice.randint(0, 3), 0, []
    for _ in range(dice.randint(4, 30)):
        found.append((when, f"{major}.{minor}.{dice.randint(0, 4)}"))
        when += dice.randint(1_000_000, 12_000_000)
        major, minor = (major + 1, 0) if dice.random() < 0.12 else (major, minor + 1)
    return found


def _first(when: int) -> int:
    """The oldest of three interpreters that a release is built for."""
    return 0 if when < 1_580_000_000 else 1


def _bound(dice: random.Random, name: str, releases: Sequence[tuple[int, str]], when: int) -> str:
    """What a release says of a package that it needs: not older than one of that time, often of the same major."""
    there = [version for released, version in releases if released <= when]
    if not there:
        return ""
    floor = dice.choice(there[-4:])
    ceiling = f",<{int(floor.split('.')[0]) + 2}.0a0" if dice.random() < 0.15 else ""
    return f"{name} >={floor}{ceiling}"


def _add(rows: dict[str, dict[str, Any]], name: str, version: str, build: str, depends: list[str], when: int) -> None:
    filename = f"{name}-{version}-{build}.conda"
    rows[filename] = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": 0,
        "depends": depends,
        "subdir": _SUBDIR,
        "license": "MIT",
        "md5": hashlib.md5(filename.encode()).hexdigest(),
        "sha256": hashlib.sha256(filename.encode()).hexdigest(),
        "size": 100_000,
        "timestamp": when * 1000,
    }


def by_program(program: Program, made: Made, room: Path) -> None:
    """A dry run of conda or mamba; what it has read of the channel the last time it may know still."""
    room.mkdir(exist_ok=True)
    program.solve([made.url], made.wishes, room, _ENVIRON)


def by_rattler(made: Made, room: Path) -> None:
    """The built-in solver, with the start of its process."""
    request = {"channels": {"made-up": made.url}, "subdir": _SUBDIR, "specs": made.wishes}
    rattler.ask("solve", {**request, "cache": str(room), "sharded": False}, _ENVIRON)


def programs(directory: Path) -> list[Program]:
    """The real conda first, then those of the others that are installed."""
    try:
        found = [Program("conda", str(made_conda(directory) / "conda"), "")]
    except CannotBeHad:
        return []
    return found + [Program(name, path, "2") for name in ("mamba", "micromamba") if (path := shutil.which(name))]


def measure(quick: bool) -> Sequence[Row]:
    """The median of each, in turn."""
    with tempfile.TemporaryDirectory(prefix="i2v-benchmark-") as directory:
        root = Path(directory)
        made = make_channel(root / "channel", 100 if quick else 1000)
        found = programs(root / "conda")
        actions: list[Callable[[], object]] = [
            partial(by_program, program, made, root / f"room-{program.name}") for program in found
        ]
        seconds = alternate(2 if quick else 5, *actions, partial(by_rattler, made, root / "index"))
    times = dict(zip([*(program.name for program in found), "rattler"], seconds, strict=True))
    return list(rows(times, made))


def rows(times: dict[str, float], made: Made) -> list[Row]:
    """How many times faster than conda's classic solver each of the others is."""
    peer = times.pop("conda", None)
    against = f"conda, classic solver: {peer:.2f} s, {made.records} records" if peer else "conda, which cannot be had"
    found = [
        Row(
            f"{name}: times faster than conda",
            peer / taken if peer else None,
            "x",
            _CLAIM,
            None,
            f"{against}; {taken:.2f} s",
        )
        for name, taken in times.items()
    ]
    if "mamba" not in times and "micromamba" not in times:
        found.append(Row("mamba: times faster than conda", None, "x", _CLAIM, None, "mamba is not installed"))
    return found


if __name__ == "__main__":
    main(measure, __doc__ or "")
