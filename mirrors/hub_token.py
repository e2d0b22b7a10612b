"""The user's token for the model hub, from its usual places.

It goes to the upstream hub itself, by https, and nowhere else: not to its content servers, not to mirrors, not into a
file, a log, a URL, a command line or another process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from mirrors.catalogue import Mirror
from mirrors.credentials import Bearer
from mirrors.errors import MirrorError
from mirrors.http import HttpSettings
from mirrors.urls import host

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_TRUE = ("1", "on", "yes", "true")


def signed_in(http: HttpSettings, hub: Mirror, environ: Mapping[str, str] = os.environ) -> HttpSettings:
    """The same settings, with the user's token for the upstream hub, if there is one and the hub is asked by https.

    Raises:
        MirrorError: what is kept as a token is none.
    """
    token = read(environ) if urlsplit(hub.url).scheme == "https" else None
    return replace(http, bearer=Bearer(host(hub.url), token)) if token else http


def read(environ: Mapping[str, str] = os.environ) -> str | None:
    """The token, as huggingface_hub would find it; None: there is none, or it is not to be sent unasked.

    Raises:
        MirrorError: what is kept as a token is none.
    """
    if environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in _TRUE:
        return None
    for name in VARIABLES:
        if token := environ.get(name, "").strip():
            return _checked(token, name)
    path = _file(environ)
    try:
        return _checked(token, str(path)) if (token := path.read_text(encoding="utf-8").strip()) else None
    except (OSError, UnicodeDecodeError):
        return None


def _file(environ: Mapping[str, str]) -> Path:
    if named := environ.get("HF_TOKEN_PATH"):
        return Path(named).expanduser()
    caches = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(environ.get("HF_HOME") or f"{caches}/huggingface").expanduser() / "token"


def _checked(token: str, origin: str) -> str:
    """A line break or a letter outside ASCII would break the request, and its text would be shown in the error."""
    if not re.fullmatch(r"[\x21-\x7e]{1,1000}", token):
        raise MirrorError(f"what {origin} holds is no token: one line of letters and digits", "put the token in anew")
    return token
