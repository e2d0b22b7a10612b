"""Which environment is current, going back, removing: the env commands, and what lies under them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from bootstrap import current, generations, leftovers, state, usage
from bootstrap.errors import SetupError
from bootstrap.generations import Generation
from tests.bootstrap.made_up import environment
from tests.conftest import Invoke
from tests.mirrors.loopback import until

A, B, C = "cpu-py311-aaaaaaaaaaaa", "cpu-py311-bbbbbbbbbbbb", "cu130-py312-cccccccccccc"


@pytest.fixture
def three(home: Path) -> Path:
    """A, B and C were made current in that order."""
    for number, name in enumerate((A, B, C)):
        path = environment(home, name, made=f"2026-01-02T03:04:0{number}+00:00")
        current.make_current(state.home(), at(path))
    return home


def at(path: Path) -> Generation:
    found = generations.find(path)
    assert found is not None
    return found


def now(home: Path) -> str:
    return (home / "current").resolve().name


def test_the_list_says_what_each_was_made_from_and_which_is_current(three: Path, invoke: Invoke) -> None:
    shown = invoke("env", "list").stdout
    for words in (A, B, C, "cpu", "3.11", "uv", "cpu.txt", "100.0 kB", "2026-01-02", "current", "previous"):
        assert words in shown
    told = json.loads(invoke("env", "list", "--json").stdout)
    assert [(it["name"], it["state"]) for it in told] == [(A, None), (B, "previous"), (C, "current")]
    assert told[2]["build"] == "cpu"
    assert told[2]["path"] == str(three / "envs" / C)


def test_an_empty_list_says_how_to_begin(home: Path, invoke: Invoke) -> None:
    assert "i2v-setup install" in invoke("env", "list").output
    assert json.loads(invoke("env", "list", "--json").stdout) == []
    assert not home.exists()


def test_rollback_goes_one_further_back_each_time_and_says_when_there_is_no_more(three: Path, invoke: Invoke) -> None:
    done = invoke("env", "rollback")
    assert f"current: {B}" in done.output
    assert f"i2v-setup env rollback {C}" in done.output
    assert now(three) == B
    invoke("env", "rollback")
    assert now(three) == A
    done = invoke("env", "rollback")
    assert done.exit_code == 1
    assert "no earlier environment" in done.output
    assert now(three) == A


def test_rollback_to_a_name_is_itself_taken_back_by_the_next_one(three: Path, invoke: Invoke) -> None:
    moved = json.loads(invoke("env", "rollback", "aaaa", "--json").stdout)
    assert (moved["before"]["build"], now(three)) == ("cpu", A)
    invoke("env", "rollback")
    assert now(three) == C


@pytest.mark.parametrize(("name", "says"), [("nonesuch", "is no environment"), ("py311", "several"), ("", "")])
def test_a_name_that_fits_none_or_several_is_wrong_usage(name: str, says: str, three: Path, invoke: Invoke) -> None:
    done = invoke("env", "rollback", name)
    assert done.exit_code == 2
    assert says in done.output
    assert now(three) == C


def test_nothing_goes_back_to_what_is_damaged(three: Path, invoke: Invoke) -> None:
    (package,) = (three / "envs" / B).glob("lib/*/site-packages/one-*")
    shutil.rmtree(package)
    done = invoke("env", "rollback")
    assert done.exit_code == 1
    assert "1 of the 2 packages" in done.output
    assert now(three) == C
    (three / "envs" / B / "bin" / "python").unlink()
    invoke("env", "rollback")
    assert now(three) == A  # an environment without an interpreter is none, so the one before it is meant


def test_what_was_removed_is_skipped_on_the_way_back(three: Path, invoke: Invoke) -> None:
    done = invoke("env", "remove", B, "--yes")
    assert done.exit_code == 0, done.output
    assert "gives back" in done.output
    assert not (three / "envs" / B).exists()
    invoke("env", "rollback")
    assert now(three) == A


def test_remove_says_how_much_room_it_gives_back(three: Path, invoke: Invoke) -> None:
    shared = three / "elsewhere"
    shared.hardlink_to(three / "envs" / A / "blob")
    one, two = json.loads(invoke("env", "remove", A, B, "--yes", "--json").stdout)
    assert two["room"] - one["room"] >= 98_304
    assert shared.exists()


def test_the_current_environment_is_not_removed_and_then_no_other_is(three: Path, invoke: Invoke) -> None:
    done = invoke("env", "remove", A, C, "--yes")
    assert done.exit_code == 2
    assert "is the current environment" in done.output
    assert all((three / "envs" / name).exists() for name in (A, C))
    assert "is the current environment" in invoke("env", "remove", C).output  # before a yes is asked for


def test_an_environment_in_which_something_runs_is_not_removed(three: Path, invoke: Invoke) -> None:
    python = three / "envs" / A / "bin" / "python"
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as process:
        until(lambda: bool(usage.processes(three / "envs" / A)))
        done = invoke("env", "remove", A, "--yes")
        listed = json.loads(invoke("env", "list", "--json").stdout)
        process.communicate(b"\n")
    assert done.exit_code == 1
    assert f"pid {process.pid}" in done.output
    assert [process["pid"] for process in listed[0]["processes"]] == [process.pid]
    assert invoke("env", "remove", A, "--yes").exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="loaded libraries are seen on Linux only")
def test_a_process_that_loaded_a_library_from_an_environment_works_in_it(tmp_path: Path) -> None:
    copy = tmp_path / "env" / "lib.so"
    copy.parent.mkdir()
    copy.write_bytes(bytes(4096))
    code = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); input()"
    with subprocess.Popen([sys.executable, "-c", code, copy], stdin=subprocess.PIPE) as process:
        until(lambda: bool(usage.processes(tmp_path / "env")))
        assert [found.pid for found in usage.processes(tmp_path / "env")] == [process.pid]
        assert usage.processes(tmp_path / "en") == ()
        process.communicate(b"\n")


def test_without_a_terminal_nothing_is_removed_unless_yes_is_said(three: Path, invoke: Invoke) -> None:
    done = invoke("env", "remove", A)
    assert done.exit_code == 2
    assert "--yes" in done.output
    assert (three / "envs" / A).exists()


@pytest.mark.parametrize("command", [("rollback",), ("remove", A, "--yes")])
def test_while_an_installation_is_under_way_nothing_moves(
    command: tuple[str, ...], three: Path, invoke: Invoke
) -> None:
    (three / ".install.json").write_text(json.dumps({"pid": 4711, "since": "12:03:04"}))
    with FileLock(three / ".install.lock"):
        done = invoke("env", *command)
    assert done.exit_code == 1
    assert "process 4711, since 12:03:04" in done.output
    assert now(three) == C


def test_a_damaged_current_environment_is_told_with_two_ways_out(three: Path) -> None:
    (three / "envs" / C / "generation.json").write_text("{", encoding="utf-8")
    with pytest.raises(SetupError, match="damaged") as caught:
        current.current(state.home())
    assert "rollback" in caught.value.hint
    assert "install" in caught.value.hint


@pytest.mark.parametrize("text", ["{", "7", '{"a": 1}', "[1, null, {}]"])
def test_a_history_that_cannot_be_read_is_no_way_back_and_no_traceback(text: str, three: Path, invoke: Invoke) -> None:
    (three / "history.json").write_text(text)
    done = invoke("env", "rollback")
    assert done.exit_code == 1
    assert "no earlier environment" in done.output
    current.make_current(state.home(), at(three / "envs" / A))
    invoke("env", "rollback")
    assert now(three) == C


def test_what_killed_processes_left_is_swept_but_not_what_is_in_use(three: Path) -> None:
    half = environment(three, "cpu-py311-dddddddddddd", complete=False)
    busy = environment(three, "cpu-py311-eeeeeeeeeeee", complete=False)
    link = three / ".current.4711"
    link.symlink_to(half)
    staging = three / "cache" / "models" / ".demo-0123"
    staging.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    orphans = [three / "cache" / f"wheels.{dead.pid}.tmp", three / "cache" / f".choices.json.x.{dead.pid}.tmp"]
    alive = three / "cache" / f"wheels.{os.getpid()}.tmp"
    killed = three / "config" / "locks" / ".cpu.txt.tmp"
    unpacking = three / "uv-cache" / ".tmpAbC123"
    for directory in (killed.parent, unpacking):
        directory.mkdir(parents=True)
    for path in (*orphans, alive, killed, unpacking / "torch"):
        path.touch()
    os.utime(killed, (0, 0))
    with subprocess.Popen([busy / "bin" / "python", "-c", "input()"], stdin=subprocess.PIPE) as process:
        until(lambda: bool(usage.processes(busy)))
        leftovers.sweep(state.home())
        assert busy.exists()
        process.communicate(b"\n")
    assert not any(path.exists() for path in (half, staging, killed, unpacking, *orphans))
    assert not link.is_symlink()
    assert alive.exists()
    assert all((three / "envs" / name).exists() for name in (A, B, C))
    leftovers.sweep(state.home())
    assert not busy.exists()


def test_one_that_was_built_anew_takes_the_place_of_the_old_one_once_nothing_runs_there(three: Path) -> None:
    anew = environment(three, f"{C}.2", made="2026-02-02T00:00:00+00:00")
    with subprocess.Popen([three / "envs" / C / "bin" / "python", "-c", "input()"], stdin=subprocess.PIPE) as process:
        until(lambda: bool(usage.processes(three / "envs" / C)))
        current.make_current(state.home(), at(anew))
        leftovers.sweep(state.home())
        assert (three / "envs" / C).exists()
        process.communicate(b"\n")
    leftovers.sweep(state.home())
    assert not (three / "envs" / C).exists()
    assert now(three) == f"{C}.2"
    previous = current.previous(state.home())
    assert previous is not None
    assert previous.name == B
