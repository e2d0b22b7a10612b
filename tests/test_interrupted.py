"""Installations that are killed, that meet another one, and whose disk runs full: what was current works ever after."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirrors.store import Store
from tests.conftest import COMMAND, Tool, tool_in

INSTALL = ("install", "--torch", "cpu", "--yes")
KILLS = int(os.environ.get("I2V_SOAK_KILLS", "200"))
SEED = int(os.environ.get("I2V_SOAK_SEED", "7"))
DAMAGED = """
import sys
sys.path.insert(0, sys.argv[1])
from runtime import intact
print([damage.file.name for damage in intact.damaged(intact.package_files())])
import av, torch
"""


class Install:
    """An installation in a process of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed at the end of the block
        environment = {**os.environ, "I2V_SETUP_HOME": str(home)}
        # A shell may have us ignore SIGINT, as it does for its background jobs; this is to be as a user starts it.
        self.process = subprocess.Popen(
            [*COMMAND, *INSTALL, *arguments],
            env=environment,
            stderr=self._output,
            preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - no threads here
        )

    def __enter__(self) -> Install:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()

    @property
    def said(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def until(self, condition: Callable[[], object], seconds: float = 240) -> None:
        """Wait for something that this process brings about."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.001)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an environment that is current and works. Each test leaves it so."""
    place = tmp_path_factory.mktemp("interrupted") / "home"
    tool_in(place)(*INSTALL)
    return place


def current(home: Path) -> Path:
    return (home / "current").resolve()


def building(home: Path) -> Path | None:
    """The environment that is being built."""
    return next((path for path in (home / "envs").iterdir() if path != current(home)), None)


def works(home: Path) -> None:
    """What is current is whole and imports what it must; nothing of it was touched."""
    environment = current(home)
    assert (environment / "generation.json").is_file()
    command = [str(environment / "bin" / "python"), "-c", DAMAGED, str(environment / "app")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def nothing_is_left_after_the_next_run(home: Path) -> None:
    tool_in(home)(*INSTALL)
    assert [path.name for path in (home / "envs").iterdir()] == [current(home).name]
    kept = {".install.lock", "cache", "current", "envs", "history.json", "state", "config"}
    assert {path.name for path in home.iterdir()} <= kept
    left = [
        path
        for directory in (home / "cache", home / "state" / "deployments")
        for path in directory.rglob("*")
        if path.name.endswith((".tmp", ".part")) or path.name.startswith((".demo", ".choices"))
    ]
    assert left == []
    store = Store(home / "cache" / "store")  # a download that is half done is no rest: it is gone on with
    assert list(store.debris()) == []
    assert not list((store.root / "locks").glob("*"))


@pytest.mark.parametrize("moment", ["pyvenv.cfg", "lib/python*/site-packages/torch/version.py", "app/runtime/check.py"])
def test_an_installation_that_is_killed_leaves_the_old_environment_and_the_next_run_cleans_up(
    moment: str, home: Path
) -> None:
    before = current(home)
    with Install(home, "--rebuild") as install:
        install.until(lambda: (new := building(home)) is not None and next(new.glob(moment), None))
        install.kill()
    assert current(home) == before
    works(home)
    nothing_is_left_after_the_next_run(home)
    assert current(home) == before


def test_killed_at_the_very_end_it_is_the_old_or_the_new_one(home: Path) -> None:
    before = current(home)
    with Install(home, "--rebuild") as install:
        install.until(lambda: (new := building(home)) is not None and (new / "generation.json").exists())
        install.kill()
    works(home)
    assert current(home) in (before, before.with_name(f"{before.name}.2"))
    nothing_is_left_after_the_next_run(home)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_installations_killed_at_random_moments_leave_the_old_or_the_new_environment(home: Path) -> None:
    moments = random.Random(SEED)
    began = time.monotonic()
    tool_in(home)(*INSTALL, "--rebuild")
    whole, moved = time.monotonic() - began, 0
    for number in range(KILLS):
        before = current(home)
        # The first third of an installation is where most of what can be torn is written.
        until = whole * (0.35 if number % 2 else 1.5)
        with Install(home, "--rebuild") as install:
            time.sleep(moments.uniform(0.1, until))
            install.kill()
        moved += current(home) != before
        works(home)
        nothing_is_left_after_the_next_run(home)
        sys.stdout.write(f"kill {number + 1} of {KILLS}: {current(home).name}, {moved} became current\n")
    tool_in(home)("env", "verify")


def test_the_second_of_two_installations_waits_says_for_whom_and_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    with Install(home) as first:
        first.until((home / ".install.json").exists)
        with Install(home) as second, Install(home) as third:
            for waiting in (second, third):
                waiting.until(lambda it=waiting: "is under way; waiting" in it.said)  # type: ignore[misc]
                assert f"process {first.process.pid}," in waiting.said
            third.process.send_signal(signal.SIGINT)
            assert third.process.wait(30) == 130
            assert first.process.poll() is None
            assert first.process.wait(240) == 0, first.said
            assert second.process.wait(60) == 0, second.said
    assert len(list((home / "state" / "deployments").glob("*.json"))) == 1
    assert not (home / ".install.json").exists()
    works(home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2.5 GB; only root may mount one."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_runs_full_in_the_middle_stops_it_and_after_making_room_it_completes(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(small_disk / "uv"))
    home, filler = small_disk / "home", small_disk / "filler"
    tool: Tool = tool_in(home)
    tool(*INSTALL)
    before = current(home)
    with Install(home, "--rebuild") as install:
        install.until(lambda: building(home) is not None)
        fill(filler)
        assert install.process.wait(240) == 1, install.said
        error, hint = install.said[install.said.index("error: ") :].strip().splitlines()[-2:]
    assert "full" in error or "No space left" in error
    assert hint.startswith("hint: ")
    assert current(home) == before
    assert building(home) is None
    told = tool(*INSTALL, "--rebuild", check=False)
    assert told.returncode == 1
    assert "MB free" in told.stderr
    filler.unlink()
    works(home)
    tool(*INSTALL, "--rebuild")
    assert current(home) != before
    nothing_is_left_after_the_next_run(home)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 24, 1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_disk_without_the_room_is_told_before_anything_is_built_and_what_is_here_already_counts(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(small_disk / "uv"))
    home, filler = small_disk / "home", small_disk / "filler"
    filler.write_bytes(bytes(1_500_000_000))
    planned = tool_in(home)(*INSTALL, check=False)
    assert planned.returncode == 1
    assert "GB of unpacked packages" in planned.stderr
    assert not (home / "envs").exists()
    filler.unlink()
    tool_in(home)(*INSTALL)
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 200_000_000))
    tool_in(home)(*INSTALL, "--rebuild")  # what uv's cache has needs no room again


def test_the_plan_as_json_says_what_room_it_takes_where(tmp_path: Path) -> None:
    plan = json.loads(tool_in(tmp_path / "home")("install", "--torch", "cpu", "--dry-run", "--json").stdout)
    assert {need["what"] for need in plan["room"]} >= {"wheels", "unpacked packages", "the environment", "weights"}
    assert not (tmp_path / "home").exists()
