"""The content-addressed store."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mirrors.errors import MirrorError, NoSpace
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
            partial.write(block)
        return partial


def test_a_file_is_visible_when_it_is_whole_and_right(store: Store) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(DATA[:5])
        with pytest.raises(Mismatch):
            partial.publish()
        assert not store.has(SHA256)
        partial.write(DATA[5:])
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
        assert partial.size == 100
        partial.write(DATA[100:])
        partial.publish()
    assert store.path(SHA256).read_bytes() == DATA


def test_a_restart_forgets_all(store: Store) -> None:
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(b"wrong")
        partial.restart()
        partial.write(DATA)
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
        partial.write(DATA)
        partial.publish()
    assert second.communicate()[0] == "True\n"
