"""Which wheels a lock keeps: those that a platform of its builds can install. All others only make it longer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from packaging.markers import Marker
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from bootstrap.torch_builds import Platform

_SYSTEMS = {"Linux": r"(manylinux\w*|linux)_{arch}", "Darwin": r"macosx_\d+_\d+_({arch}|universal2)"}


def where(marker: Marker | None, platforms: Iterable[Platform]) -> list[Platform]:
    """The platforms, each with the Pythons on which a marker holds; none on which it never does."""
    if marker is None:
        return list(platforms)
    narrowed = [
        replace(platform, pythons=tuple(python for python in platform.pythons if _holds(marker, platform, python)))
        for platform in platforms
    ]
    return [platform for platform in narrowed if platform.pythons]


def fits(filename: str, platforms: Iterable[Platform]) -> bool:
    """Whether one of the platforms can install the file: a wheel, for glibc, and not for the free-threaded Python."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    return any(_fits(tag, platform) for platform in platforms for tag in tags)


def _holds(marker: Marker, platform: Platform, python: str) -> bool:
    return marker.evaluate(
        {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "platform_system": platform.system,
            "sys_platform": platform.system.lower(),
            "platform_machine": platform.arch,
        }
    )


def _fits(tag: Tag, platform: Platform) -> bool:
    pattern = _SYSTEMS[platform.system].replace("{arch}", platform.arch)
    if tag.platform != "any" and not re.fullmatch(pattern, tag.platform):
        return False
    interpreters = {f"cp{python.replace('.', '')}" for python in platform.pythons}
    if tag.abi == "none":
        return tag.interpreter == "py3" or tag.interpreter in interpreters
    if tag.abi == "abi3":
        newest = max(int(python.partition(".")[2]) for python in platform.pythons)
        return bool(re.fullmatch(r"cp3\d+", tag.interpreter)) and int(tag.interpreter[3:]) <= newest
    return tag.interpreter in interpreters and tag.abi == tag.interpreter
