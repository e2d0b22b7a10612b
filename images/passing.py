"""What is in an engine only while one of our processes works: images by a passing name, containers that never run.

A process that is killed leaves it there. Names and labels say whose it is, so that the next process of this machine
can remove what is nobody's any more, and leaves alone what another one, here or elsewhere, still works with.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
from contextlib import suppress

import psutil
from docker.errors import APIError

from images.engine import Engine, engine_errors

#: The label of such containers.
LABEL = "i2v-setup.passing"
_REPOSITORY = "i2v-building"
_OWNER = re.compile(r"([0-9a-f]{12})-(\d+)-(\d+)")


def owner() -> str:
    """Names this process among all that there are and were."""
    return f"{_machine()}-{os.getpid()}-{_began(os.getpid())}"


def name() -> str:
    """A name for an image."""
    return f"{_REPOSITORY}:{owner()}-{secrets.token_hex(8)}"


def sweep(engine: Engine) -> None:
    """Remove what processes of this machine left that are no more.

    Raises:
        ImageError: The engine does not answer.
    """
    with engine_errors("remove what earlier builds left"):
        for container in engine.client.containers.list(all=True, filters={"label": LABEL}):
            if _is_left(container.labels[LABEL]):
                with suppress(APIError):  # another process does the same
                    container.remove(force=True)
        for image in engine.client.api.images(name=_REPOSITORY):
            for tag in image.get("RepoTags") or ():
                if _is_left(tag.partition(":")[2]):
                    engine.untag(tag)


def _is_left(whose: str) -> bool:
    match = _OWNER.match(whose)
    return match is not None and match[1] == _machine() and _began(int(match[2])) != int(match[3])


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def _began(pid: int) -> int:
    """When the process was started, in seconds since 1970; 0 if there is none."""
    try:
        return round(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0
