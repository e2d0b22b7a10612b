import base64
import json
from pathlib import Path

import pytest

from images.errors import ImageError
from images.registry_login import Login, login_for

_SECRET = "planted-secret-77aa"

pytestmark = pytest.mark.usefixtures("no_logins")


def _config(directory: Path, **settings: object) -> None:
    (directory / "config.json").write_text(json.dumps(settings))


def _auth(name: str = "me", password: str = _SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def _helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program `docker-credential-test` that notes how it was called, and what it was told."""
    program = directory / "docker-credential-test"
    program.write_text(f'#!/bin/sh\necho "$@" > {directory}/arguments\n/bin/cat > {directory}/told\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("r.example:5000", "r.example:5000"),
        ("r.example", "https://r.example/v1/"),
        ("docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_a_password_is_found_where_docker_keeps_it(no_logins: Path, host: str, key: str) -> None:
    _config(no_logins, auths={key: _auth(password="a:b")})
    assert login_for(host) == Login("me", "a:b")
    assert login_for("other.example") is None


def test_without_a_configuration_there_is_no_login() -> None:
    assert login_for("r.example") is None


def test_the_users_own_directory_is_where_docker_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".docker").mkdir()
    _config(tmp_path / ".docker", auths={"r.example": _auth()})
    assert login_for("r.example") == Login("me", _SECRET)


def test_an_identity_token_has_no_name(no_logins: Path) -> None:
    _config(no_logins, auths={"r.example": {**_auth("me", ""), "identitytoken": _SECRET}})
    assert login_for("r.example") == Login("", _SECRET)


def test_a_helper_for_the_host_is_asked_first(no_logins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _helper(no_logins, monkeypatch, f"""echo '{{"Username": "me", "Secret": "{_SECRET}"}}'""")
    _config(no_logins, credHelpers={"r.example": "test"}, credsStore="missing", auths={"r.example": _auth("other")})
    assert login_for("r.example") == Login("me", _SECRET)
    assert (no_logins / "told").read_text() == "r.example"
    assert (no_logins / "arguments").read_text() == "get\n"


def test_a_store_gives_identity_tokens_too(no_logins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _helper(no_logins, monkeypatch, f"""echo '{{"Username": "<token>", "Secret": "{_SECRET}"}}'""")
    _config(no_logins, credsStore="test")
    assert login_for("docker.io") == Login("", _SECRET)
    assert (no_logins / "told").read_text() == "https://index.docker.io/v1/"


def test_what_a_store_does_not_have_may_be_in_the_file(no_logins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _helper(no_logins, monkeypatch, "echo credentials not found in native keychain; exit 1")
    _config(no_logins, credsStore="test", auths={"r.example": _auth()})
    assert login_for("r.example") == Login("me", _SECRET)
    assert login_for("other.example") is None


@pytest.mark.parametrize("script", [f"echo {_SECRET}; exit 1", f"echo {_SECRET}", f"echo '[\"{_SECRET}\"]'"])
def test_a_helper_that_fails_is_said_without_what_it_said(
    no_logins: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    _helper(no_logins, monkeypatch, script)
    _config(no_logins, credsStore="test")
    with pytest.raises(ImageError, match=r"docker-credential-test.* gives none for r.example") as caught:
        login_for("r.example")
    assert _SECRET not in str(caught.value) + caught.value.hint


def test_a_helper_that_is_missing_is_said(no_logins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(no_logins))
    _config(no_logins, credsStore="missing")
    with pytest.raises(ImageError, match=r"docker-credential-missing.* not on the PATH"):
        login_for("r.example")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"auths": [1]}',
        '{"auths": {"r.example": {"auth": "!"}}}',
        '{"auths": {"r.example": {"auth": "/w=="}}}',
    ],
)
def test_a_damaged_configuration_is_said(no_logins: Path, text: str) -> None:
    (no_logins / "config.json").write_text(text)
    with pytest.raises(ImageError, match=r"config.json cannot be used"):
        login_for("r.example")


def test_a_login_does_not_show_its_password() -> None:
    assert _SECRET not in repr(Login("me", _SECRET))
