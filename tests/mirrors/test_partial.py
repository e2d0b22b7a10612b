"""Parts of a file: in any order, from any source, kept over kills."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mirrors.errors import NoSpace
from mirrors.partial import HASH_BLOCK, Mismatch, Partial, notes_of
from mirrors.ranges import Ranges
from tests.mirrors.loopback import until

DATA = random.Random(0).randbytes(3 * HASH_BLOCK + 17)
SHA256 = hashlib.sha256(DATA).hexdigest()


def opened(directory: Path) -> Partial:
    return Partial(directory / "partial", directory / "whole" / SHA256)


def put(partial: Partial, start: int, end: int, source: str = "a:1") -> None:
    partial.write(start, DATA[start:end], source)


@pytest.mark.parametrize("seed", range(5))
def test_parts_may_come_in_any_order(tmp_path: Path, seed: int) -> None:
    dice, partial = random.Random(seed), opened(tmp_path)
    cuts = [0, *sorted(dice.sample(range(1, len(DATA)), 20)), len(DATA)]
    parts = list(itertools.pairwise(cuts))
    dice.shuffle(parts)
    for start, end in parts:
        assert not partial.complete
        put(partial, start, end, dice.choice(["a:1", "b:2"]))
        partial.hash_on()
    assert partial.prefix == len(DATA)
    assert sum(ranges.total for ranges in partial.sources().values()) == len(DATA)
    assert partial.publish().read_bytes() == DATA
    partial.close()
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_what_is_here_is_known_again_by_the_next(tmp_path: Path) -> None:
    first = opened(tmp_path)
    put(first, 1000, 2000)
    put(first, 2000, 3000)
    put(first, 5000, 6000, "b:2")
    first.forget(1500, 1600)
    put(first, 2500, 2600, "b:2")
    first.close()
    second = opened(tmp_path)
    assert second.have == first.have == Ranges([(1000, 1500), (1600, 3000), (5000, 6000)])
    assert second.sources() == {
        "a:1": Ranges([(1000, 1500), (1600, 2500), (2600, 3000)]),
        "b:2": Ranges([(2500, 2600), (5000, 6000)]),
    }
    assert second.read(1600, 3000) == DATA[1600:3000]
    with pytest.raises(ValueError, match="not here"):
        second.read(1500, 1601)
    second.close()


@pytest.mark.parametrize("torn", ["", "10", "1000 2000 a", "x y z\n", "99999999999999999999 1 a\n", "\xff\xfe\n"])
def test_a_torn_or_strange_line_is_ignored(tmp_path: Path, torn: str) -> None:
    first = opened(tmp_path)
    put(first, 0, 500)
    first.close()
    with notes_of(first.path).open("ab") as notes:
        notes.write(torn.encode("latin-1"))
    second = opened(tmp_path)
    put(second, 500, 600)
    second.close()
    third = opened(tmp_path)
    assert third.have == Ranges([(0, 600)])
    third.close()


def test_bytes_that_were_noted_but_are_gone_are_missing(tmp_path: Path) -> None:
    first = opened(tmp_path)
    put(first, 0, 1000)
    first.close()
    os.truncate(first.path, 700)
    second = opened(tmp_path)
    assert second.have == Ranges([(0, 700)])
    second.close()


def test_what_was_forgotten_is_hashed_anew(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.write(0, b"x" * 1000, "evil:1")
    put(partial, 1000, len(DATA))
    with pytest.raises(Mismatch):
        partial.publish()
    [(start, end)] = partial.sources()["evil:1"]
    partial.forget(start, end)
    put(partial, start, end)
    assert partial.complete
    partial.close()


def test_junk_beyond_the_whole_is_cut_off(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    put(partial, 0, len(DATA))
    partial.write(len(DATA) + 10, b"junk", "a:1")
    partial.forget(len(DATA), len(DATA) + 20)
    assert partial.publish().read_bytes() == DATA
    partial.close()


def test_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.close()
    partial.close()
    assert list(tmp_path.iterdir()) == []


def test_many_threads_may_write(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    step = len(DATA) // 8

    def write(number: int) -> None:
        end = len(DATA) if number == 7 else (number + 1) * step
        for start in range(number * step, end, 10_000):
            put(partial, start, min(start + 10_000, end), f"host:{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        partial.hash_on()
    assert partial.complete
    assert len(partial.sources()) == 8
    partial.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "partial").symlink_to("/dev/full")
    partial = opened(tmp_path)
    with pytest.raises(NoSpace, match="is full"):
        put(partial, 0, 1000)
    assert not partial.have
    partial.close()


def test_a_kill_costs_only_what_was_not_noted_yet(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mirrors.partial import Partial\n"
        "p = Partial(Path(sys.argv[1]) / 'partial', Path('/none'))\n"
        "for i in range(40): p.write(i * 100_000, b'x' * 100_000, 'a:1')\n"
        "print('written', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until((tmp_path / "partial").exists)
    partial = opened(tmp_path)
    assert 4_000_000 - (1 << 20) <= partial.prefix <= 4_000_000
    partial.close()
