"""Who we are at a registry: what `docker login` has kept, read as the docker command reads it.

A credential helper of the user's is asked by its standard input and answers by its output. Nothing is written, and no
secret is shown: not in a message, nor a repr, nor a command line.

    https://github.com/docker/docker-credential-helpers
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.errors import ImageError
from images.references import DOCKER_HUB

_HUB_KEY = "https://index.docker.io/v1/"  # under which Docker keeps the login of Docker Hub
_TOKEN_USER = "<token>"  # noqa: S105  # what helpers give as the name with an identity token
_NOT_FOUND = "credentials not found"
_HELPER_SECONDS = 60  # it may ask its user


@dataclass(frozen=True)
class Login:
    """A name and its password; or, with no name, an identity token, which is given for others."""

    name: str
    secret: str = field(repr=False)


def login_for(host: str) -> Login | None:
    """What the user has logged in with at that host, as references name it; None if nothing is kept.

    Raises:
        ImageError: Docker's configuration, or the helper that it names, is of no use.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    config = _read(path)
    key = _HUB_KEY if host == DOCKER_HUB else host
    helper = _table(config, "credHelpers", path).get(key) or config.get("credsStore")
    found = _ask(str(helper), key) if helper else None
    return found or _kept(_table(config, "auths", path), key, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise _broken(path, str(reason)) from None
    if not isinstance(document, dict):
        raise _broken(path, "it holds no settings")
    return document


def _table(config: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    table = config.get(name) or {}
    if not isinstance(table, dict):
        raise _broken(path, f"{name} is no table")
    return table


def _kept(auths: dict[str, Any], key: str, path: Path) -> Login | None:
    """The login in the file itself. Old versions of Docker kept it under a URL of the host."""
    entry = auths.get(key) or next((value for url, value in auths.items() if _host(url) == _host(key)), None)
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return Login("", str(token))
    try:
        decoded = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _broken(path, f"the login for {_host(key)} in it is damaged") from None
    name, colon, password = decoded.partition(":")
    return Login(name, password.rstrip("\0")) if colon else None


def _host(key: str) -> str:
    return key.rpartition("://")[2].partition("/")[0]


def _ask(helper: str, key: str) -> Login | None:
    """What the program `docker-credential-<helper>` keeps for a registry."""
    program = f"docker-credential-{helper}"
    command = shutil.which(program)
    if command is None:
        raise ImageError(
            f"{program}, which keeps your logins, is not on the PATH",
            "install it, or take it out of Docker's config.json and log in again",
        )
    try:
        asked = subprocess.run(
            [command, "get"], input=key, capture_output=True, encoding="utf-8", timeout=_HELPER_SECONDS, check=False
        )
        if asked.returncode != 0 and _NOT_FOUND in asked.stdout.lower():
            return None
        answer = json.loads(asked.stdout) if asked.returncode == 0 else {}
        name, secret = str(answer["Username"]), str(answer["Secret"])
    # What it said is not repeated: it may be half a secret.
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        hint = f"see what it says: echo {key} | {program} get"
        raise ImageError(f"{program}, which keeps your logins, gives none for {_host(key)}", hint) from None
    return Login("" if name == _TOKEN_USER else name, secret) if secret else None


def _broken(path: Path, why: str) -> ImageError:
    return ImageError(
        f"Docker's configuration {path} cannot be used: {why}", "mend it, or move it away and log in again"
    )
