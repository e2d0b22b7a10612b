"""Which wheels an environment takes: the tags of a Python on this machine, or on platforms that are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename


def supported(python: str, platforms: Sequence[str] | None = None) -> tuple[Tag, ...]:
    """The wheel tags that a CPython ("3.11") takes, best first; on this machine, or on the platforms that are named."""
    major, minor = map(int, python.split(".")[:2])
    named = list(platforms) if platforms is not None else None
    interpreter = f"cp{major}{minor}"
    return (
        *cpython_tags((major, minor), abis=[interpreter], platforms=named),
        *compatible_tags((major, minor), interpreter, named),
    )


def order(tags: Sequence[Tag]) -> dict[Tag, int]:
    """The place of each tag; the best one is 0."""
    return {tag: place for place, tag in enumerate(tags)}


def place(filename: str, places: Mapping[Tag, int]) -> int | None:
    """How well a wheel fits, by its file name: the least is the best; None: not at all, or it is no wheel."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return None
    return min((places[tag] for tag in tags if tag in places), default=None)


def manylinux(arch: str, glibc: int) -> tuple[str, ...]:
    """The platforms of a Linux with glibc 2.`glibc`, newest first, each with its older name."""
    older = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    names = []
    for minor in range(glibc, 4, -1):
        names.append(f"manylinux_2_{minor}_{arch}")
        names += [f"{older[minor]}_{arch}"] if minor in older else []
    return (*names, f"linux_{arch}")
