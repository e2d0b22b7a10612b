from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.backends import uv
from bootstrap.errors import SetupError
from mirrors.errors import FetchFailed
from mirrors.fetch import Downloads
from mirrors.http import HttpSettings
from mirrors.resolve import Wheel
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror
from tests.small_wheels import locked, small_wheel

NAME, DATA = small_wheel()
BIG_NAME, BIG = small_wheel("big_package", size=2_000_000)
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as mirror:
        mirror.add(NAME, DATA)
        mirror.add(BIG_NAME, BIG)
        yield mirror


@pytest.fixture
def tiny(mirror: LoopbackMirror) -> Wheel:
    return locked(NAME, DATA, mirror.url(NAME))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return created(tmp_path / "env")


def created(path: Path) -> Path:
    uv.create(path, sys.executable, {})
    return path


def install(environment: Path, *wheels: Wheel, **env: str) -> tuple[uv.Phase, ...]:
    """As the tool does; the store is new each time, so that only uv's cache can save requests."""
    with Downloads(Store(environment / "store"), HttpSettings(response_timeout=5.0)) as downloads:
        return uv.install(environment / "bin" / "python", wheels, downloads, env, lambda _: None)


def installed(environment: Path, name: str = "tiny_package") -> list[Path]:
    return list(environment.glob(f"lib/python*/site-packages/{name}.py"))


def test_exactly_the_wheels_of_a_lock_are_installed_and_uvs_phases_are_told(environment: Path, tiny: Wheel) -> None:
    phases = install(environment, tiny)
    assert [(phase.name, phase.packages) for phase in phases] == [("unpack", 1), ("link", 1)]
    assert all(0 <= phase.seconds < 60 for phase in phases)
    assert installed(environment)


def test_the_next_environment_comes_from_uvs_cache_without_a_request(
    environment: Path, mirror: LoopbackMirror, tmp_path: Path
) -> None:
    wheels = (locked(NAME, DATA, mirror.url(NAME)), locked(BIG_NAME, BIG, mirror.url(BIG_NAME), size=None))
    install(environment, *wheels)
    asked = len(mirror.requests)
    second = created(tmp_path / "second")
    install(second, *wheels)
    install(created(tmp_path / "third"), *wheels, UV_OFFLINE="1")
    assert len(mirror.requests) == asked
    assert installed(second)
    assert installed(second, "big_package")


def test_a_local_wheel_is_taken_from_where_it_lies(environment: Path, tmp_path: Path, tiny: Wheel) -> None:
    directory = tmp_path / "local wheels"
    directory.mkdir()
    file = directory / BIG_NAME
    file.write_bytes(BIG)
    install(environment, tiny, replace(locked(BIG_NAME, BIG), path=file))
    assert installed(environment, "big_package")
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not Store(environment / "store").has(locked(BIG_NAME, BIG).artifact.sha256)


def test_a_local_wheel_with_other_bytes_is_refused(environment: Path, tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(small_wheel(content="ANSWER = 66\n")[1])
    with pytest.raises(SetupError, match=r"[Hh]ash"):
        install(environment, replace(locked(NAME, DATA), path=file))
    assert installed(environment) == []


def test_other_bytes_of_the_same_name_in_uvs_cache_are_not_taken(
    environment: Path, mirror: LoopbackMirror, tiny: Wheel, tmp_path: Path
) -> None:
    evil = small_wheel(content="ANSWER = 66\n")[1]
    mirror.add(NAME, evil)
    install(environment, locked(NAME, evil, mirror.url(NAME)))
    mirror.add(NAME, DATA)
    second = created(tmp_path / "second")
    install(second, tiny)
    assert [path.read_text() for path in installed(second)] == ["ANSWER = 42\n"]


def test_other_bytes_of_the_right_length_are_refused_and_the_reason_is_the_mirrors(
    environment: Path, mirror: LoopbackMirror
) -> None:
    mirror.misbehave("/files/*", Fault(tamper=True))
    with pytest.raises(FetchFailed, match="sha256"):
        install(environment, locked(NAME, DATA, mirror.url(NAME)), locked(BIG_NAME, BIG, mirror.url(BIG_NAME)))
    assert installed(environment) == []


def test_wrong_bytes_from_one_mirror_do_not_end_the_installation(environment: Path, mirror: LoopbackMirror) -> None:
    with LoopbackMirror() as evil:
        evil.add(BIG_NAME, BIG)
        evil.misbehave("/files/*", Fault(tamper=True))
        mirror.misbehave("/files/*", Fault(rate=2_000_000))
        install(environment, locked(BIG_NAME, BIG, evil.url(BIG_NAME), mirror.url(BIG_NAME)))
    assert installed(environment, "big_package")


def test_the_users_own_variables_do_not_turn_uv_elsewhere(
    environment: Path, tiny: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackMirror() as other:
        evil = {"UV_DEFAULT_INDEX": other.index_url, "UV_INDEX": other.index_url, "UV_NO_VERIFY_HASHES": "1"}
        evil |= {"UV_INSECURE_HOST": "127.0.0.1", "UV_HTTP_RETRIES": "0", "UV_CONCURRENT_DOWNLOADS": "1"}
        evil |= {"UV_CONSTRAINT": "/nowhere", "UV_OFFLINE": "1", "UV_TORCH_BACKEND": "cu130"}
        for name, value in evil.items():
            monkeypatch.setenv(name, value)
        install(environment, tiny)
        assert other.requests == []
    assert installed(environment)


def test_uv_is_run_once_more_where_it_stumbled_over_bytes_that_were_found_wrong_later(
    environment: Path, mirror: LoopbackMirror
) -> None:
    mirror.misbehave("/files/*", Fault(tamper=True, rate=1_000_000, times=1))
    lines: list[str] = []
    with Downloads(Store(environment / "store"), HttpSettings()) as downloads:
        wheels = [locked(BIG_NAME, BIG, mirror.url(BIG_NAME))]
        uv.install(environment / "bin" / "python", wheels, downloads, {}, lines.append)
    assert any(line.startswith("error:") for line in lines)
    assert installed(environment, "big_package")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_is_not_asked_for_what_this_machine_serves(
    variable: str, environment: Path, tiny: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    install(environment, tiny, **{variable: DEAD})
    assert installed(environment)


def test_a_password_in_an_address_is_in_no_message(environment: Path, mirror: LoopbackMirror) -> None:
    mirror.misbehave("/files/*", Fault(status=403))
    url = mirror.url(NAME).replace("://", "://user:hunter2@")
    lines: list[str] = []
    with (
        pytest.raises(FetchFailed) as caught,
        Downloads(Store(environment / "store"), HttpSettings()) as downloads,
    ):
        uv.install(environment / "bin" / "python", [locked(NAME, DATA, url)], downloads, {}, lines.append)
    assert "403" in str(caught.value)
    assert "hunter2" not in str(caught.value) + caught.value.hint + "".join(lines)


def test_a_wheel_for_another_machine_is_one_clear_error(environment: Path, mirror: LoopbackMirror) -> None:
    foreign = NAME.replace("py3-none-any", "cp399-cp399-win_arm64")
    mirror.add(foreign, DATA)
    with pytest.raises(SetupError, match="tiny-package") as caught:
        install(environment, locked(foreign, DATA, mirror.url(foreign)))
    assert "--torch cpu" in caught.value.hint


def test_of_a_disk_that_is_full_only_the_last_cause_is_told() -> None:
    chain = "error: Failed to prepare\n  Caused by: Failed to extract\n  Caused by: /x/torch: No space left on device"
    assert uv.reason(chain) == "/x/torch: No space left on device"
    assert uv.reason("error: Failed\n  cause: other\n  cause: /x: No space left on device") == (
        "/x: No space left on device"
    )
    assert "Failed to prepare" in uv.reason(chain.replace("No space left", "Too many links"))


def test_a_python_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(SetupError, match=r"Python 3\.99") as caught:
        uv.create(tmp_path / "env", "3.99", {})
    assert caught.value.hint


@pytest.mark.parametrize(("text", "seconds"), [("437ms", 0.437), ("5.73s", 5.73), ("1m 02s", 62.0)])
def test_uvs_durations_are_read(text: str, seconds: float) -> None:
    assert uv._seconds(text) == pytest.approx(seconds)
