"""What all tests share: a home of their own, the command as a user types it, and one real installation."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bootstrap.cli import main
from images.engine import Engine, connect
from images.errors import EngineUnavailable, ImageError
from tests.mirrors.real_tools import Conda

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "temple.jpg"
COMMAND = (sys.executable, "-m", "bootstrap.cli")

# Any image with python3 and venv; the first that the engine has is used, or else the first is pulled.
_BASES = ("python:3.11-slim-bookworm", "i2v-base:bookworm")
HAS_RUNTIME = importlib.util.find_spec("diffusers") is not None
collect_ignore = [] if HAS_RUNTIME else ["runtime"]

Invoke = Callable[..., Result]
Tool = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure() -> None:
    """A shell has its background jobs ignore Ctrl-C, which children inherit; tests send it to theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Says what is left out and why; in CI nothing may be."""
    assert HAS_RUNTIME or os.environ.get("CI") != "true", "CI must have the runtime's dependencies"
    return "" if HAS_RUNTIME else "without tests/runtime: it needs Python 3.11 or newer and the runtime's dependencies"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the tool, for this test alone."""
    directory = tmp_path / "home"
    monkeypatch.setenv("I2V_SETUP_HOME", str(directory))
    return directory


@pytest.fixture
def invoke(home: Path) -> Invoke:
    """Runs a command in this process, in the test's own home."""

    def run(*arguments: str, **options: str) -> Result:
        return CliRunner().invoke(main, arguments, catch_exceptions=False, **options)  # type: ignore[arg-type]

    return run


def tool_in(directory: Path) -> Tool:
    """Runs a command as a process of its own, with that home."""

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "I2V_SETUP_HOME": str(directory)}
        done = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the demo model installed for real, from a real index, for all tests of the session."""
    directory = tmp_path_factory.mktemp("installed")
    tool_in(directory)("install", "--model", "demo", "--torch", "cpu", "--mirror", "auto", "--yes")
    return directory


@pytest.fixture(scope="session")
def tool(installed: Path) -> Tool:
    """Runs a command as a process of its own, where the demo model is installed."""
    return tool_in(installed)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        connected = connect()
    except EngineUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with connected:
        yield connected


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    if named := os.environ.get("I2V_TEST_BASE_IMAGE"):
        return named
    for name in _BASES:
        try:
            engine.image(name)
        except ImageError:
            continue
        return name
    return _BASES[0]


@pytest.fixture(scope="session")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Conda:
    """The code of conda itself, to read a .condarc with."""
    return Conda(tmp_path_factory.mktemp("conda"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    pem, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)]
    try:
        subprocess.run([*command, *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")
    return pem, key


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nobody may write into the directory: by its mode, or by a mount, since root heeds no modes."""
    if os.geteuid() != 0:
        directory.chmod(0o500)
        try:
            yield
        finally:
            directory.chmod(0o700)
        return
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)
