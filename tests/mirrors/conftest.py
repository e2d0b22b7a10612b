"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirrors.http import HttpSettings
from tests.mirrors.loopback import LoopbackMirror

_VARIABLES = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "requests_ca_bundle",
    "ssl_cert_file",
    "curl_ca_bundle",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        yield server


@pytest.fixture
def other() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        yield server


@pytest.fixture
def http() -> HttpSettings:
    return HttpSettings(read_timeout=5.0, response_timeout=5.0)
