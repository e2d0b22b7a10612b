"""What `clean` removes, and what it leaves because something uses it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from bootstrap import clean
from bootstrap.errors import UsageProblem
from bootstrap.state import home as home_of_the_environment
from mirrors.store import Store
from tests.conftest import COMMAND, Invoke

DAY = 86400.0
RECORD = json.dumps({"build": "cpu", "python": "3.11", "lock_sha256": "0" * 64})


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home_of_the_environment().store)


def stored(store: Store, content: bytes, unused_for: float) -> Path:
    """A file in the store that was last used so many seconds ago."""
    sha256 = hashlib.sha256(content).hexdigest()
    with store.incoming(sha256) as partial:
        assert partial is not None
        partial.write(0, content, "test")
        partial.publish()
    path = store.path(sha256)
    os.utime(path, (time.time() - unused_for, path.stat().st_mtime))
    return path


def left_over(store: Store, content: bytes, unused_for: float = 0.0) -> Path:
    """The first bytes of a file whose fetching was broken off."""
    with store.incoming(hashlib.sha256(content).hexdigest()) as partial:
        assert partial is not None
        partial.write(0, content[:-1], "test")
        path = partial.path
    os.utime(path, (time.time() - unused_for,) * 2)
    return path


def environment(home: Path, name: str, *, complete: bool) -> Path:
    path = home / "envs" / name
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(sys.executable)
    (path / "lib").write_bytes(bytes(100_000))
    if complete:
        (path / "generation.json").write_text(RECORD, encoding="utf-8")
    return path


def test_what_nothing_uses_goes_and_the_rest_stays(home: Path, store: Store, invoke: Invoke) -> None:
    unused = stored(store, b"a" * 50_000, 2 * DAY)
    linked = stored(store, b"b" * 50_000, 2 * DAY)
    (home / "cache" / "models" / "demo-0123").mkdir(parents=True)
    (home / "cache" / "models" / "demo-0123" / "weights").hardlink_to(linked)
    partial = left_over(store, b"c" * 50_000)
    staging = home / "cache" / "models" / ".demo-4567"
    staging.mkdir()
    half, whole, current = (environment(home, name, complete=name != "half") for name in ("half", "whole", "current"))
    (home / "current").symlink_to(current)
    done = invoke("clean", "--yes")
    assert done.exit_code == 0, done.output
    for path in (unused, partial, staging, half):
        assert not path.exists()
    for path in (linked, whole, current, home / "cache" / "models" / "demo-0123" / "weights"):
        assert path.exists()
    assert "nothing to remove" in invoke("clean", "--yes").output


def test_a_dry_run_says_what_would_go_and_how_much_room_that_gives(home: Path, store: Store, invoke: Invoke) -> None:
    unused = stored(store, b"a" * 5_000_000, 2 * DAY)
    partial = left_over(store, b"c" * 50_000)
    half = environment(home, "half", complete=False)
    shown = invoke("clean", "--dry-run").stdout
    for words in ("stored file", "5.0 MB", "partial download", "unfinished environment", "half"):
        assert words in shown
    found = json.loads(invoke("clean", "--dry-run", "--json").stdout)
    assert {it["what"] for it in found} == {"stored file", "partial download", "unfinished environment"}
    assert sum(it["size"] for it in found) > 5_100_000
    assert unused.exists()
    assert partial.exists()
    assert half.exists()


def test_only_what_was_not_used_for_so_long(home: Path, store: Store, invoke: Invoke) -> None:
    old, newer = stored(store, b"a", 31 * DAY), stored(store, b"b", 29 * DAY)
    old_part, newer_part = left_over(store, b"xx", 31 * DAY), left_over(store, b"yy", 29 * DAY)
    done = json.loads(invoke("clean", "--yes", "--older-than", "30d", "--json").stdout)
    assert {Path(it["path"]) for it in done} == {old, old_part}
    assert newer.exists()
    assert newer_part.exists()


def test_a_use_counts(home: Path, store: Store, invoke: Invoke) -> None:
    path = stored(store, b"a", 31 * DAY)
    assert store.has(path.name)
    invoke("clean", "--yes", "--older-than", "30d")
    assert path.exists()


def test_a_file_that_was_used_a_moment_ago_stays(home: Path, store: Store, invoke: Invoke) -> None:
    path = stored(store, b"a", 1.0)
    assert "in use, or was used in the last 10 minutes" in invoke("clean").output
    assert path.exists()


def test_a_time_that_was_asked_for_wins_over_the_usual_grace(home: Path, store: Store, invoke: Invoke) -> None:
    path = stored(store, b"a", 60.0)
    assert "or was used more recently than that" in invoke("clean", "--yes", "--older-than", "2m").output
    assert path.exists()
    assert invoke("clean", "--yes", "--older-than", "0s").exit_code == 0
    assert not path.exists()


def test_without_a_terminal_nothing_goes_unless_yes_is_said(home: Path, store: Store, invoke: Invoke) -> None:
    path = stored(store, b"a" * 50_000, 2 * DAY)
    for arguments in ((), ("--json",)):
        done = invoke("clean", *arguments)
        assert done.exit_code == 2
        assert "hint: add --yes" in done.output
        assert path.exists()
    assert invoke("clean", "--dry-run").exit_code == 0
    assert invoke("clean", "--yes").exit_code == 0
    assert invoke("clean").exit_code == 0


def test_what_another_process_fetches_stays(home: Path, store: Store, invoke: Invoke) -> None:
    sha256 = hashlib.sha256(b"whole").hexdigest()
    code = (
        "import sys; from pathlib import Path; from mirrors.store import Store\n"
        f"with Store(Path({str(store.root)!r})).incoming({sha256!r}) as partial:\n"
        "    partial.write(0, b'who', 'test'); print('here', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "here\n"
        assert json.loads(invoke("clean", "--yes", "--json").stdout) == []
        assert (store.root / "partial" / sha256).exists()
        it.communicate()
    assert len(json.loads(invoke("clean", "--yes", "--json").stdout)) == 1
    assert not (store.root / "partial" / sha256).exists()


def test_what_killed_processes_left_goes_unless_it_is_new_or_in_use(home: Path, store: Store, invoke: Invoke) -> None:
    taken_in = [store.root / "partial" / name for name in ("tmpold", "tmpheld", "tmpnew")]
    for directory in taken_in:
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(bytes(100_000))
    notes = store.root / "partial" / f"{'0' * 64}.have"
    cache = home / "cache"
    files = [notes, cache / "wheels.123.tmp", cache / ".choices.json.abc", home / "state" / "deployments" / "a.1.tmp"]
    files[-1].parent.mkdir(parents=True)
    for file in files:
        file.write_text("0 1 a:1\n")
    with FileLock(taken_in[1] / "lock"):
        for path in (*files, *taken_in[:2], *taken_in[0].iterdir(), *taken_in[1].iterdir()):
            os.utime(path, (time.time() - DAY,) * 2)
        (cache / f"wheels.{os.getpid()}.tmp").touch()
        shown = json.loads(invoke("clean", "--dry-run", "--json").stdout)
        assert {it["what"] for it in shown} == {"temporary file"}
        assert {Path(it["path"]) for it in shown} == {*files, *taken_in[:2]}
        assert all(path.exists() for path in (*files, *taken_in))
        gone = json.loads(invoke("clean", "--yes", "--json").stdout)
    assert {Path(it["path"]) for it in gone} == {*files, taken_in[0]}
    assert [path.exists() for path in taken_in] == [False, True, True]
    assert not any(file.exists() for file in files)
    assert (cache / f"wheels.{os.getpid()}.tmp").exists()


def test_nothing_is_removed_while_an_installation_is_under_way(home: Path, store: Store, invoke: Invoke) -> None:
    half = environment(home, "half", complete=False)
    with FileLock(home / ".install.lock"):
        done = invoke("clean", "--yes")
    assert done.exit_code == 1
    assert "installation is under way" in done.output
    assert half.exists()


def test_what_was_finished_or_used_meanwhile_stays(home: Path, store: Store) -> None:
    path, half = stored(store, b"a", 2 * DAY), environment(home, "half", complete=False)
    found = clean.find(home_of_the_environment())
    assert len(found) == 2
    assert store.has(path.name)
    (half / "generation.json").write_text(RECORD, encoding="utf-8")
    assert clean.remove(home_of_the_environment(), found, lambda _: None) == []
    assert path.exists()
    assert half.exists()


def test_locks_that_nobody_holds_go_along(home: Path, store: Store, invoke: Invoke) -> None:
    stored(store, b"a", 2 * DAY)
    stored(store, b"b", 1.0)
    invoke("clean", "--yes")
    assert list((store.root / "locks").iterdir()) == []


def test_an_empty_home_is_clean_and_stays_untouched(home: Path, invoke: Invoke) -> None:
    done = invoke("clean", "--yes")
    assert done.exit_code == 0
    assert "nothing to remove" in done.output
    assert not home.exists()


def test_piped_and_with_json_there_is_one_document_on_stdout(home: Path, store: Store) -> None:
    stored(store, b"a", 2 * DAY)
    done = subprocess.run([*COMMAND, "clean", "--yes", "--json"], capture_output=True, text=True, check=True)
    (removed,) = json.loads(done.stdout)
    assert removed["what"] == "stored file"
    assert "removed: " in done.stderr


@pytest.mark.parametrize(("text", "expected"), [("30d", 30 * DAY), ("12H", 43200.0), ("2w", 14 * DAY), ("0s", 0.0)])
def test_lengths_of_time(text: str, expected: float) -> None:
    assert clean.seconds(text) == expected


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1y", "", "٣d", "9" * 9 + "d"])
def test_what_is_no_length_of_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageProblem, match="is no length of time"):
        clean.seconds(text)
