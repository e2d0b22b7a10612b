"""The systemd unit: what systemd itself says of it, where the key goes, and that undo takes all of it back."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import api_key, service
from bootstrap.errors import UsageProblem
from bootstrap.serving import Serving
from bootstrap.state import Home
from tests.bootstrap import small_home
from tests.conftest import Tool, tool_in

KEY = 'a "key" with \\ and $HOME and `id` and %h'

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is for Linux")


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of mine"))
    monkeypatch.delenv(api_key.KEY, raising=False)
    return small_home.make(tmp_path / "home $x 100%")


@pytest.fixture
def own_tool(own_home: Home) -> Tool:
    return tool_in(own_home.data)


def unit_file(tmp_path: Path) -> Path:
    return tmp_path / "config of mine" / "systemd" / "user" / service.UNIT


@pytest.mark.parametrize("user", [False, True])
def test_systemd_finds_nothing_wrong_with_the_unit(user: bool, own_home: Home, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    serving = Serving("demo", "::1", 9000, "fp32", 90)
    environ = {"I2V_SETUP_HOME": str(own_home.data)}
    path = tmp_path / service.UNIT
    path.write_text(service.unit(own_home, serving, user=user, environ=environ, has_key=True))
    # As a system's unit in both cases: a user's manager cannot be asked without a session of that user.
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_of_the_system_leaves_the_gpus_and_little_else(own_home: Home, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = service.unit(own_home, Serving(), user=False, environ={}, has_key=False)
    settings = [line.partition("=")[0] for line in text.splitlines() if not line.startswith("#")]
    assert not {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"} & {*settings}
    path = tmp_path / service.UNIT
    path.write_text(text)
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]  # an exposure of 4.0 of 10 at most


def test_the_command_in_the_unit_is_one_that_starts_the_server(own_home: Home) -> None:
    serving = Serving("demo", "127.0.0.1", 9000, "fp32", 90)
    text = service.unit(own_home, serving, user=True, environ={}, has_key=False)
    (command,) = (line.removeprefix("ExecStart=").split() for line in text.splitlines() if line.startswith("ExecStart"))
    assert os.access(command[0], os.X_OK)
    refused = subprocess.run([*command, "--gpus", "all"], capture_output=True, text=True, check=False)
    assert "--gpus goes with --docker" in refused.stderr  # so all that is before it was understood


def test_it_is_written_shown_and_taken_back(
    own_tool: Tool, own_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(api_key.KEY, KEY)
    done = own_tool("run", "--install-service", "--user", "--host", "0.0.0.0", "--drain", "60")
    path = unit_file(tmp_path)
    text = path.read_text()
    assert done.stdout == text
    assert f"written: {path}" in done.stderr
    assert "next: systemctl --user daemon-reload" in done.stderr
    assert f"next: systemctl --user enable --now {service.UNIT}" in done.stderr
    assert "--drain 60" in text
    assert KEY not in text + done.stdout + done.stderr
    assert stat.S_IMODE(own_home.service_key.stat().st_mode) == 0o600
    monkeypatch.delenv(api_key.KEY)
    assert api_key.known(own_home, {}) == KEY
    undone = own_tool("undo")
    assert "systemctl daemon-reload" in undone.stderr
    assert not path.exists()
    assert not path.parent.parent.exists()
    assert not own_home.service_key.exists()


def test_the_same_again_changes_nothing(own_tool: Tool) -> None:
    own_tool("run", "--install-service", "--user")
    assert "nothing to change" in own_tool("run", "--install-service", "--user").stderr


def test_a_unit_that_was_there_comes_back(own_tool: Tool, tmp_path: Path) -> None:
    path = unit_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[Unit]\n# mine\r\n")
    own_tool("run", "--install-service", "--user")
    assert b"# mine" not in path.read_bytes()
    own_tool("undo")
    assert path.read_bytes() == b"[Unit]\n# mine\r\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--user", "--host", "0.0.0.0"], "there is no API key"),
        (["--docker", "x"], "does not go with --docker"),
        (["--user", "--model", "nonesuch"], "nonesuch"),
    ],
)
def test_what_cannot_work_is_wrong_usage_and_writes_nothing(
    arguments: list[str], says: str, own_tool: Tool, tmp_path: Path
) -> None:
    done = own_tool("run", "--install-service", *arguments, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert not unit_file(tmp_path).exists()


def test_user_without_a_service_is_wrong_usage(own_tool: Tool) -> None:
    assert own_tool("run", "--user", check=False).returncode == 2


def test_a_key_of_several_lines_is_refused() -> None:
    with pytest.raises(UsageProblem):
        api_key.as_file("one\ntwo=three")
