"""Turns the last lines of a failed build into one sentence and a hint.

A row per cause, tried in order; to know another cause is to add a row. Knows no process and no network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from images.errors import ImageError
from images.progress import Failure

# It quotes the whole script, whose words say nothing of what went wrong.
_PROCESS = re.compile(r'^process ".*" did not complete successfully: ', re.DOTALL)
_TELLING = re.compile(
    r"error|failed|cannot|could not|no such|not found|denied|no space|mismatch|caused by", re.IGNORECASE
)
_LONGEST = 300


@dataclass(frozen=True)
class _Cause:
    """`step` and `text` are patterns of the failed step's name and of what it said."""

    step: str
    text: str
    message: str
    hint: str


_FULL_DISK = _Cause(
    "",
    r"no space left on device",
    "there is no space left for the image",
    "make room where Docker keeps its data: docker system df, docker builder prune, docker image prune",
)
_CAUSES = (
    _FULL_DISK,
    _Cause(
        r"load metadata|\[base ",
        "",
        "the base image cannot be had",
        "name one that the engine has or can reach, such as python:3.11-slim-bookworm on a registry mirror",
    ),
    _Cause(
        "RUN",
        r"python3: not found|ensurepip is not available|No module named '?venv",
        "the base image has no Python that can make environments",
        "use a base image with python3 and its venv module, such as python:3.11-slim-bookworm",
    ),
    _Cause(
        "packages",
        r"hash mismatch|DO NOT MATCH THE HASHES|Failed to extract archive",
        "a wheel is not the one that the lock names, and was thrown away",
        "its file was damaged on this machine after it had been verified: i2v-setup clean, then build again",
    ),
    _Cause(
        "packages",
        r"No matching distribution|No solution found|not found in the provided package|has no .*wheels?",
        "the lock needs a wheel that was not handed over",
        "use a base image with the Python that the wheels are for, such as python:3.11-slim-bookworm",
    ),
    _Cause(
        "",
        r"invalid tag|invalid reference format",
        "an image cannot be named or found like this",
        "write NAME:TAG in small letters, digits, '.', '_' and '-'",
    ),
    _Cause(
        "RUN",
        r"exit code: 137",
        "a step of the build was killed, most likely for want of memory",
        "give the engine more memory, or end other programs",
    ),
    _Cause(
        "",
        r"Cannot connect to the Docker daemon|error reading from server|connection refused",
        "the Docker engine stopped answering during the build",
        "see whether it runs (docker info), then build again: what was built is kept",
    ),
)


def explain(failure: Failure) -> ImageError:
    """The error to raise for a build that ended in `failure`."""
    text = "\n".join(_PROCESS.sub("", line) for line in failure.lines)
    detail = _detail(failure.lines)
    for cause in _CAUSES:
        if re.search(cause.step, failure.step) and re.search(cause.text, text, re.IGNORECASE):
            return ImageError(f"{cause.message}: {detail}", cause.hint)
    where = f" at {failure.step}" if failure.step else ""
    return ImageError(f"the build failed{where[:_LONGEST]}: {detail}", "the lines above say more")


def full_disk(said: str) -> ImageError | None:
    """The error to raise for what an engine said, if its disk is full."""
    if not re.search(_FULL_DISK.text, said, re.IGNORECASE):
        return None
    return ImageError(f"{_FULL_DISK.message}: {_detail((said,))}", _FULL_DISK.hint)


def _detail(lines: tuple[str, ...]) -> str:
    """The last line that says what went wrong; that a process ended badly is said only if nothing else is."""
    said = [line for line in lines if not _PROCESS.match(line)]
    telling = [line for line in said if _TELLING.search(line)]
    last = (telling or said or [_PROCESS.sub("", line) for line in lines] or ["it said nothing"])[-1]
    return last.strip()[:_LONGEST]
