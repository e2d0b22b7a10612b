"""Asks a server on this machine, over HTTP, with its API key where that is known. A silent one is an answer too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import requests

from bootstrap import api_key
from bootstrap.state import Home

_SECONDS = 5.0  # that one answer may take


class Asking:
    """A conversation with the server at a URL."""

    def __init__(self, home: Home, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # loopback is not asked for through a proxy
        if key := api_key.known(home):
            self._session.headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def document(self, path: str, *, refused: bool = False) -> Mapping[str, Any] | None:
        """The JSON object that it answers; None: it gives none. With `refused`, that of an error counts too."""
        with suppress(requests.RequestException, ValueError):
            answer = self._session.get(self._url + path, timeout=_SECONDS)
            if refused or answer.ok:
                found = answer.json()
                return found if isinstance(found, dict) else None
        return None
