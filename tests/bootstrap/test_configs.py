"""Edits of the user's files: all or none, whatever kills us, and back to the very byte."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import configs
from bootstrap.configs import Edit, Undone, apply, recover, undo
from bootstrap.errors import SetupError
from tests.conftest import read_only

OLD = b"\xef\xbb\xbf# mine\r\n[global]\r\ntimeout = 5"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pip.conf"
    path.write_bytes(OLD)
    return path


def outcomes(undone: list[Undone]) -> dict[str, str]:
    return {it.path.name: it.outcome for it in undone}


def test_apply_writes_and_undo_restores_the_very_bytes(config: Path, journal: Path) -> None:
    assert apply([Edit(config, "new\r\n", configs.read(config))], journal) == (config,)
    assert config.read_bytes() == b"new\r\n"
    assert outcomes(undo(journal)) == {"pip.conf": "restored"}
    assert config.read_bytes() == OLD
    assert undo(journal) == []


def test_undo_removes_what_was_not_there_and_the_directories_made_for_it(tmp_path: Path, journal: Path) -> None:
    first, second = tmp_path / "a" / "b" / "uv.toml", tmp_path / "a" / "pip.conf"
    apply([Edit(first, "x"), Edit(second, "y")], journal)
    assert (first.read_text(), second.read_text()) == ("x", "y")
    assert outcomes(undo(journal)) == {"uv.toml": "removed", "pip.conf": "removed"}
    assert not (tmp_path / "a").exists()


def test_undo_goes_back_over_several_edits(config: Path, journal: Path) -> None:
    apply([Edit(config, "one")], journal)
    apply([Edit(config, "two")], journal)
    assert outcomes(undo(journal)) == {"pip.conf": "restored"}
    assert config.read_bytes() == OLD


def test_undo_leaves_a_file_alone_that_was_changed_since(config: Path, tmp_path: Path, journal: Path) -> None:
    other = tmp_path / "uv.toml"
    apply([Edit(config, "new"), Edit(other, "new")], journal)
    config.write_text("mine again")
    undone = undo(journal)
    assert outcomes(undone) == {"pip.conf": "changed-since", "uv.toml": "removed"}
    assert config.read_text() == "mine again"
    assert undone[0].backup is not None
    assert undone[0].backup.read_bytes() == OLD
    config.write_text("new")
    assert outcomes(undo(journal)) == {"pip.conf": "restored"}


def test_a_file_that_was_deleted_since_stays_deleted(config: Path, journal: Path) -> None:
    apply([Edit(config, "new")], journal)
    config.unlink()
    assert outcomes(undo(journal)) == {"pip.conf": "changed-since"}
    assert not config.exists()


def test_an_edit_that_changes_nothing_leaves_no_trace(config: Path, journal: Path) -> None:
    before = config.stat()
    assert apply([Edit(config, configs.read(config))], journal) == ()
    assert config.stat().st_mtime_ns == before.st_mtime_ns
    assert undo(journal) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_mode_and_owner_stay(config: Path, journal: Path, mode: int) -> None:
    config.chmod(mode)
    if os.geteuid() == 0:
        os.chown(config, 12345, 54321)
    before = config.stat()
    for change in (lambda: apply([Edit(config, "new")], journal), lambda: undo(journal)):
        change()
        now = config.stat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_new_file_is_as_open_as_asked_for(tmp_path: Path, journal: Path) -> None:
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    apply([Edit(shared, "x"), Edit(secret, "x", private=True)], journal)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.stat().st_mode) & 0o077 == 0o077 & 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_symlink_stays_and_its_target_is_written(config: Path, tmp_path: Path, journal: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(config.name)
    apply([Edit(link, "new")], journal)
    assert link.is_symlink()
    assert config.read_text() == "new"
    assert outcomes(undo(journal)) == {"link.conf": "restored"}
    assert link.is_symlink()
    assert config.read_bytes() == OLD


def test_a_dangling_symlink_gets_its_target_and_loses_it_again(tmp_path: Path, journal: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(tmp_path / "dotfiles" / "pip.conf")
    apply([Edit(link, "new")], journal)
    assert link.read_text() == "new"
    undo(journal)
    assert link.is_symlink()
    assert not (tmp_path / "dotfiles").exists()


def test_two_names_of_one_file_are_refused(config: Path, tmp_path: Path, journal: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(config)
    with pytest.raises(SetupError, match="edited twice"):
        apply([Edit(config, "a"), Edit(link, "b")], journal)
    assert config.read_bytes() == OLD


def test_a_file_that_changed_under_our_hands_is_not_overwritten(config: Path, journal: Path) -> None:
    seen = configs.read(config)
    config.write_text("newer")
    with pytest.raises(SetupError, match="changed while"):
        apply([Edit(config, "new", seen)], journal)
    assert config.read_text() == "newer"


def test_a_read_only_file_is_named_and_nothing_is_written(config: Path, tmp_path: Path, journal: Path) -> None:
    other = tmp_path / "uv.toml"
    config.chmod(0o444)
    with pytest.raises(SetupError, match=r"pip\.conf is read-only") as caught:
        apply([Edit(other, "x"), Edit(config, "new")], journal)
    assert caught.value.hint
    assert config.read_bytes() == OLD
    assert not other.exists()


def test_a_directory_in_place_of_a_file_is_refused(tmp_path: Path, journal: Path) -> None:
    (tmp_path / "uv.toml").mkdir()
    with pytest.raises(SetupError):
        apply([Edit(tmp_path / "uv.toml", "x")], journal)


def test_a_read_only_directory_is_named(tmp_path: Path, journal: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    config = directory / "pip.conf"
    config.write_bytes(OLD)
    with read_only(directory), pytest.raises(SetupError, match="is read-only"):
        apply([Edit(config, "new")], journal)
    assert config.read_bytes() == OLD


def test_a_failure_in_the_middle_takes_all_back(config: Path, journal: Path) -> None:
    file = config.parent / "made" / "file"
    with pytest.raises(SetupError, match="made/file"):
        apply([Edit(config, "new"), Edit(file, "x"), Edit(file / "below a file", "x")], journal)
    assert config.read_bytes() == OLD
    assert sorted(path.name for path in config.parent.iterdir()) == ["journal", "pip.conf"]


def test_backups_are_for_the_owner_only(config: Path, journal: Path) -> None:
    apply([Edit(config, "new")], journal)
    files = [path for path in journal.rglob("*") if path.is_file() and path.name != "lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in journal.iterdir() if path.is_dir()} == {0o700}


def test_a_damaged_journal_is_an_error_that_names_it(config: Path, journal: Path) -> None:
    apply([Edit(config, "new")], journal)
    (journal / "000001" / "journal.json").write_text("{")
    with pytest.raises(SetupError, match=r"journal\.json is damaged"):
        undo(journal)


def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="not UTF-8"):
        configs.read(tmp_path / "x")


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path, journal: Path) -> None:
    path = tmp_path / ("n" * 255)
    apply([Edit(path, "new")], journal)
    assert path.read_text() == "new"


# Kills: a forked child runs the real code and kills itself with SIGKILL before its n-th call that can reach the kernel,
# for every n until it gets through. The parent then recovers and looks.
KILLER = """
import io, json, os, signal, sys
from pathlib import Path
from bootstrap import configs

root = Path(sys.argv[1])
action = sys.argv[2]
names = ["pip.conf", "uv.toml", "new/deep/.condarc"]
old = {"pip.conf": b"old pip", "uv.toml": b"old uv", "new/deep/.condarc": None}
new = {name: b"new " + name.encode() for name in names}
edits = lambda at: [configs.Edit(at / name, new[name].decode()) for name in names]


def prepared(number):
    at = root / str(number)
    at.mkdir()
    for name, data in old.items():
        if data is not None:
            (at / name).write_bytes(data)
    if action != "apply":
        configs.apply(edits(at), at / "journal")
    return at


def child(at, number):
    calls = 0

    def reaches_the_kernel(function):
        in_module = function.__module__ in ("posix", "fcntl") or function is io.open
        return in_module or isinstance(function.__self__, io.IOBase)

    def hook(frame, event, argument):
        nonlocal calls
        if event == "c_call" and reaches_the_kernel(argument):
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(hook)
    if action == "apply":
        configs.apply(edits(at), at / "journal")
    else:
        configs.undo(at / "journal")
    sys.setprofile(None)
    os._exit(0)


def seen(at):
    return {name: (at / name).read_bytes() if (at / name).exists() else None for name in names}


results = {"kills": 0, "old": 0, "new": 0, "wrong": []}
number = 0
while True:
    number += 1
    at = prepared(number)
    pid = os.fork()
    if pid == 0:
        child(at, number)
    killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    for _ in range(2):  # recovering twice is recovering once
        configs.recover(at / "journal")
    state = "old" if seen(at) == old else "new" if seen(at) == new else "wrong"
    strays = [str(path.relative_to(at)) for path in at.rglob(".i2v-setup-*")]
    if state == "old" and ((at / "new").exists() or configs.undo(at / "journal")):
        state = "wrong"
    if state == "new":
        configs.undo(at / "journal")
        if seen(at) != old:
            state = "wrong"
    if state == "wrong" or strays:
        results["wrong"].append([number, {name: str(data) for name, data in seen(at).items()}, strays])
    else:
        results[state] += 1
    if not killed:
        break
    results["kills"] += 1
print(json.dumps(results))

"""


@pytest.mark.parametrize("action", ["apply", "undo"])
def test_a_kill_at_any_call_leaves_all_old_or_all_new(tmp_path: Path, action: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), action], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["wrong"] == []
    assert results["kills"] > 50
    assert results["old"] > 0
    assert results["new"] > 0


def test_recover_with_nothing_to_recover_does_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
