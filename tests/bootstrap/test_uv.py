from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.backends import uv
from bootstrap.errors import SetupError
from bootstrap.packages import PackageSources
from tests.mirrors.loopback import Fault, LoopbackMirror

NAME = "tiny_package-1.0-py3-none-any.whl"


def wheel(content: str = "ANSWER = 42\n") -> bytes:
    """The smallest wheel that installs and imports."""
    info = "tiny_package-1.0.dist-info"
    files = {
        "tiny_package.py": content,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as mirror:
        mirror.add(NAME, wheel())
        yield mirror


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    path = tmp_path / "env"
    uv.create(path, sys.executable, {})
    return path


def sync(environment: Path, index_url: str, tmp_path: Path) -> tuple[uv.Phase, ...]:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"tiny-package==1.0 --hash=sha256:{hashlib.sha256(wheel()).hexdigest()}\n", encoding="utf-8")
    config = environment / "uv.toml"
    config.write_text(PackageSources("test", index_url).config_files()["uv.toml"], encoding="utf-8")
    return uv.sync(environment / "bin" / "python", lock, config, {}, lambda _: None)


def installed(environment: Path) -> list[Path]:
    return list(environment.glob("lib/python*/site-packages/tiny_package.py"))


def test_a_lock_is_installed_and_uvs_phases_are_told(environment: Path, mirror: LoopbackMirror, tmp_path: Path) -> None:
    phases = sync(environment, mirror.index_url, tmp_path)
    assert [(phase.name, phase.packages) for phase in phases] == [("resolve", 1), ("download", 1), ("link", 1)]
    assert all(0 <= phase.seconds < 60 for phase in phases)
    assert installed(environment)


@pytest.mark.parametrize("listed", ["", None])
def test_other_bytes_of_the_right_length_are_refused_whatever_the_index_says(
    listed: str | None, environment: Path, mirror: LoopbackMirror, tmp_path: Path
) -> None:
    evil = wheel("ANSWER = 66\n")
    assert len(evil) == len(wheel())
    mirror.add(NAME, evil, listed_sha256=listed)
    with pytest.raises(SetupError) as caught:
        sync(environment, mirror.index_url, tmp_path)
    assert "hash" in str(caught.value).lower()
    assert installed(environment) == []


def test_the_users_own_uv_variables_do_not_turn_it_to_another_index(
    environment: Path, mirror: LoopbackMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackMirror() as other:
        monkeypatch.setenv("UV_DEFAULT_INDEX", other.index_url)
        monkeypatch.setenv("UV_INSECURE_HOST", "127.0.0.1")
        sync(environment, mirror.index_url, tmp_path)
        assert other.requests == []
    assert installed(environment)


def test_a_password_in_the_index_url_is_in_no_message(
    environment: Path, mirror: LoopbackMirror, tmp_path: Path
) -> None:
    mirror.misbehave("/simple/*", Fault(status=500))
    url = mirror.index_url.replace("://", "://user:hunter2@")
    with pytest.raises(SetupError) as caught:
        sync(environment, url, tmp_path)
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert caught.value.hint


def test_a_python_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(SetupError, match=r"Python 3\.99") as caught:
        uv.create(tmp_path / "env", "3.99", {})
    assert caught.value.hint


@pytest.mark.parametrize(("text", "seconds"), [("437ms", 0.437), ("5.73s", 5.73), ("1m 02s", 62.0)])
def test_uvs_durations_are_read(text: str, seconds: float) -> None:
    assert uv._seconds(text) == pytest.approx(seconds)
