"""Edits of the user's files: all or none, whatever kills us, and back to the very byte."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bootstrap import configs
from bootstrap.configs import Edit, Undone, apply, recover, undo
from bootstrap.errors import SetupError
from mirrors.configs import condarc, pip_conf, uv_toml
from tests.bootstrap.killable import NEW as NEW_FILES
from tests.bootstrap.killable import OLD as OLD_FILES
from tests.bootstrap.killable import Action, Killer, edits, seen
from tests.conftest import read_only
from tests.mirrors.config_texts import CONDARC, PIP, UV_TOML

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


def test_what_was_left_alone_and_what_came_back_are_both_told_and_the_former_only_once(
    config: Path, journal: Path
) -> None:
    apply([Edit(config, "ours")], journal)
    config.write_text("mine again")
    (left,) = undo(journal)
    apply([Edit(config, "ours once more")], journal)
    assert recover(journal) == []
    assert outcomes(undo(journal)) == {"pip.conf": "restored"}
    assert config.read_text() == "mine again"
    assert undo(journal) == []
    assert left.backup is not None
    assert left.backup.read_bytes() == OLD


def test_a_file_edited_before_and_after_its_owner_has_both_outcomes(config: Path, journal: Path) -> None:
    apply([Edit(config, "ours")], journal)
    config.write_text("mine again")
    apply([Edit(config, "ours once more")], journal)
    back, left = undo(journal)
    assert (back.outcome, left.outcome) == ("restored", "changed-since")
    assert config.read_text() == "mine again"
    assert left.backup is not None
    assert left.backup.read_bytes() == OLD
    assert undo(journal) == []


def test_a_file_that_is_gone_with_its_directory_counts_as_undone(tmp_path: Path, journal: Path) -> None:
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "pip.conf").write_bytes(OLD)
    apply([Edit(environment / "pip.conf", "new"), Edit(environment / "uv.toml", "new")], journal)
    shutil.rmtree(environment)
    undone = undo(journal)
    assert outcomes(undone) == {"pip.conf": "gone", "uv.toml": "gone"}
    assert all("gone together with its directory" in str(it) for it in undone)
    assert undo(journal) == []
    assert not environment.exists()


def test_a_backup_that_was_told_of_outlives_the_directory(tmp_path: Path, journal: Path) -> None:
    config = tmp_path / "environment" / "pip.conf"
    config.parent.mkdir()
    config.write_bytes(OLD)
    apply([Edit(config, "new")], journal)
    config.write_text("mine")
    (left,) = undo(journal)
    shutil.rmtree(config.parent)
    assert undo(journal) == []
    assert left.backup is not None
    assert left.backup.read_bytes() == OLD


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


TEXTS = [
    *(pytest.param("pip.conf", text, id=f"pip {name}") for name, text in PIP.items()),
    *(pytest.param("uv.toml", text, id=f"uv {name}") for name, text in UV_TOML.items()),
    *(pytest.param(".condarc", text, id=f"conda {name}") for name, text in CONDARC.items()),
]
MIRRORED = {"pip.conf": pip_conf, "uv.toml": uv_toml, ".condarc": condarc}


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_a_users_file_comes_back_byte_for_byte_and_a_second_edit_is_none(
    name: str, text: str, tmp_path: Path, journal: Path
) -> None:
    real, link = tmp_path / "dotfiles", tmp_path / name
    real.write_bytes(text.encode())
    real.chmod(0o600)
    link.symlink_to(real)
    for expected in ((link,), ()):
        old = configs.read(link)
        assert apply([Edit(link, MIRRORED[name](old, "https://m.example/x"), old)], journal) == expected
    assert "m.example" in real.read_text(encoding="utf-8")
    undo(journal)
    assert real.read_bytes() == text.encode()
    assert (link.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o600)


def test_a_file_with_several_names_is_not_edited(config: Path, tmp_path: Path, journal: Path) -> None:
    other = tmp_path / "other-name"
    other.hardlink_to(config)
    with pytest.raises(SetupError, match="has 2 names") as caught:
        apply([Edit(tmp_path / "uv.toml", "x"), Edit(config, "new")], journal)
    assert str(config) in caught.value.hint
    assert config.read_bytes() == OLD
    assert config.samefile(other)
    assert not (tmp_path / "uv.toml").exists()


def test_a_file_that_got_another_name_since_keeps_both(config: Path, tmp_path: Path, journal: Path) -> None:
    apply([Edit(config, "new")], journal)
    other = tmp_path / "other-name"
    other.hardlink_to(config)
    assert outcomes(undo(journal)) == {"pip.conf": "changed-since"}
    assert config.samefile(other)
    other.unlink()
    assert outcomes(undo(journal)) == {"pip.conf": "restored"}
    assert config.read_bytes() == OLD


def test_what_was_not_undone_says_so_and_where_the_bytes_are(config: Path, tmp_path: Path, journal: Path) -> None:
    apply([Edit(config, "new"), Edit(tmp_path / "uv.toml", "x")], journal)
    config.write_text("mine")
    (tmp_path / "uv.toml").write_text("mine")
    first, second = map(str, undo(journal))
    assert "changed" in first
    assert Path(first.rpartition(" are in ")[2]).read_bytes() == OLD
    assert second.endswith("before there was no such file")


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


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: a kill loses no bytes that the kernel has, and hundreds are quick."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as directory:
        yield Path(directory)


def prepared(action: Action, memory: Path, half_done: Path | None) -> Iterator[Path]:
    """Directories with files as they are before the action."""
    for number in count():
        at = memory / f"{action}-{number}"
        if half_done is not None:
            shutil.copytree(half_done, at)
            journal = at / "journal" / "000001" / "journal.json"
            journal.write_text(journal.read_text().replace(str(half_done), str(at)))
        else:
            at.mkdir()
            for name, data in OLD_FILES.items():
                if data is not None:
                    (at / name).write_bytes(data)
        if action == "undo":
            apply(edits(at), at / "journal")
        yield at


def half_done(memory: Path, killer: Killer) -> Path:
    """What a kill in the middle of an edit left: some files are new and some are old."""
    steps = killer.steps("apply", prepared("apply", memory, None))
    return next(at for at in steps if seen(at) not in (OLD_FILES, NEW_FILES))


def settled(at: Path) -> str:
    """Which state the files have after what a kill left was taken back, and whether `undo` knows the way from there."""
    for _ in range(2):  # recovering twice is recovering once
        recover(at / "journal")
    assert list(at.rglob(".i2v-setup-*")) == []
    assert list((at / "journal").rglob("journal.new")) == []
    if seen(at) == OLD_FILES:
        assert not (at / "new").exists()
        assert undo(at / "journal") == []
        return "old"
    assert seen(at) == NEW_FILES
    undo(at / "journal")
    assert seen(at) == OLD_FILES
    return "new"


@pytest.mark.parametrize("action", ["apply", "undo", "recover"])
def test_a_kill_at_any_system_call_leaves_all_old_or_all_new(memory: Path, action: Action) -> None:
    with Killer() as killer:
        middle = half_done(memory, killer) if action == "recover" else None
        steps = killer.steps(action, prepared(action, memory, middle))
        states = [settled(at) for at in steps]
    assert len(states) > 30
    assert set(states) == ({"old"} if action == "recover" else {"old", "new"})


def test_recover_with_nothing_to_recover_does_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
