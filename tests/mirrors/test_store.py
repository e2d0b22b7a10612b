"""The content-addressed store."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirrors.errors import Busy, MirrorError, NoSpace
from mirrors.partial import notes_of
from mirrors.store import Mismatch, Partial, Store, free_space, trouble
from tests.mirrors.loopback import until

DATA = b"some bytes" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store, *blocks: bytes) -> Partial:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        for block in blocks:
            partial.write(partial.prefix, block, "a:1")
        return partial


def test_a_file_is_visible_when_it_is_whole_and_right(store: Store) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(0, DATA[:5], "a:1")
        with pytest.raises(Mismatch):
            partial.publish()
        assert not store.has(SHA256)
        partial.write(5, DATA[5:], "a:1")
        assert partial.complete
        assert partial.publish() == store.path(SHA256)
    assert store.has(SHA256)
    assert store.path(SHA256).read_bytes() == DATA
    assert stat.S_IMODE(store.path(SHA256).stat().st_mode) == 0o444
    with store.incoming(SHA256) as there:
        assert there is None
    assert list((store.root / "partial").iterdir()) == []


def test_partial_bytes_are_kept_and_hashed_again(store: Store) -> None:
    write(store, DATA[:100])
    with store.incoming(SHA256) as partial:
        assert partial is not None
        assert partial.prefix == 100
        partial.write(100, DATA[100:], "a:1")
        partial.publish()
    assert store.path(SHA256).read_bytes() == DATA


def test_add_takes_a_file_in_and_leaves_it_as_it_is(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.whl"
    file.write_bytes(DATA)
    file.chmod(0o640)
    assert store.add(file) == SHA256
    assert store.add(file) == SHA256
    assert store.path(SHA256).samefile(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    link = tmp_path / "link"
    link.symlink_to(file)
    assert Store(tmp_path / "second").add(link) == SHA256
    with pytest.raises(MirrorError, match="No such file"):
        store.add(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_add_copies_a_file_of_another_user_who_could_rewrite_it_later(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.whl"
    file.write_bytes(DATA)
    os.chown(file, 65534, 65534)
    assert store.add(file, SHA256) == SHA256
    file.write_bytes(b"evil")
    assert store.path(SHA256).read_bytes() == DATA


@pytest.mark.parametrize("sha256", ["", "abc", "../" * 22, "A" * 64, "a" * 63 + "/", "a" * 64 + "\n"])
def test_only_a_sha256_names_a_file(store: Store, sha256: str) -> None:
    with pytest.raises(MirrorError, match="is no sha256"):
        store.path(sha256)


def test_a_full_disk_is_an_error_of_its_own() -> None:
    with pytest.raises(NoSpace, match="is full") as caught, trouble(Path("/store")):
        Path("/dev/full").write_bytes(b"x" * 100_000)
    assert caught.value.hint


def test_a_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MirrorError, match="file") as caught, Store(tmp_path / "file" / "below").incoming(SHA256):
        pass
    assert caught.value.hint
    assert free_space(tmp_path) > 0


def test_a_second_process_waits_for_the_first(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mirrors.store import Store\n"
        "Path(sys.argv[2]).touch()\n"
        "with Store(Path(sys.argv[1])).incoming(sys.argv[3]) as partial: print(partial is None)"
    )
    started = tmp_path / "started"
    with store.incoming(SHA256) as partial:
        assert partial is not None
        second = subprocess.Popen(
            [sys.executable, "-c", code, store.root, started, SHA256], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        until(started.exists)
        partial.write(0, DATA, "a:1")
        partial.publish()
    assert second.communicate()[0] == "True\n"


def test_who_does_not_want_to_wait_is_told(store: Store) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        with pytest.raises(Busy), store.incoming(SHA256, wait=False):
            pass
        with ThreadPoolExecutor() as pool, pytest.raises(Busy):
            pool.submit(lambda: store.incoming(SHA256, wait=False).__enter__()).result()
    with store.incoming(SHA256, wait=False) as partial:
        assert partial is not None


def test_use_is_remembered_and_the_users_own_file_keeps_its_time(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.whl"
    file.write_bytes(DATA)
    os.utime(file, (1000, 2000))
    store.add(file)
    os.utime(store.path(SHA256), (1000, 2000))
    assert [stored.used for stored in store.objects()] == [1000]
    before = time.time()
    assert store.has(SHA256)
    [stored] = store.objects()
    assert stored.used >= before - 1
    assert (stored.sha256, stored.whole) == (SHA256, True)
    assert stored.size >= len(DATA)
    assert file.stat().st_mtime == 2000


def test_files_and_left_overs_can_be_removed(store: Store, tmp_path: Path) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    (tmp_path / "a").write_bytes(b"other")
    store.add(tmp_path / "a")
    write(store, DATA[:100])
    assert [(stored.sha256, stored.whole) for stored in store.objects()] == [(other, True), (SHA256, False)]
    assert store.remove(SHA256)
    assert store.remove(other)
    assert store.remove(other)
    assert list(store.objects()) == []
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_what_somebody_fetches_is_left_alone(store: Store) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(0, DATA, "a:1")
        assert not store.remove(SHA256)
        store.sweep()
        assert [path.name for path in (store.root / "locks").iterdir()] == [f"{SHA256}.lock"]
        partial.publish()
    store.sweep()
    assert list((store.root / "locks").iterdir()) == []
    assert store.has(SHA256)


def test_what_killed_processes_left_can_be_removed(store: Store, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"  # to take it in never comes to an end
    os.mkfifo(fifo)
    code = (
        "import sys; from pathlib import Path; from mirrors.store import Store\n"
        "Store(Path(sys.argv[1])).add(Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, store.root, fifo]) as child:
        try:
            until(lambda: list(store.root.glob("partial/tmp*/file")))
            [directory] = store.debris()
            assert not store.discard(directory)
            assert directory.exists()
        finally:
            child.kill()
    notes = notes_of(store.root / "partial" / SHA256)
    notes.write_text("0 5 a:1\n")
    assert list(store.debris()) == [directory, notes]
    with store.incoming(SHA256) as partial:
        assert partial is not None
        assert not store.discard(notes)
    notes.write_text("0 5 a:1\n")
    (tmp_path / "a").write_bytes(DATA)
    assert store.add(tmp_path / "a") == SHA256
    assert store.discard(notes)
    assert store.discard(directory)
    assert not store.discard(directory)
    assert list(store.debris()) == []
    assert store.has(SHA256)
    assert list((store.root / "partial").iterdir()) == []


def test_who_waited_for_a_lock_that_was_removed_still_excludes_others(store: Store) -> None:
    with ThreadPoolExecutor() as pool:
        with store.incoming(SHA256):
            waiting = [pool.submit(_hold_shortly, store) for _ in range(4)]
            (store.root / "locks" / f"{SHA256}.lock").unlink()
        assert sum(future.result() for future in waiting) == 4


_HOLDING = threading.Lock()


def _hold_shortly(store: Store) -> bool:
    with store.incoming(SHA256):
        alone = _HOLDING.acquire(blocking=False)
        time.sleep(0.02)
        _HOLDING.release()
    return alone
