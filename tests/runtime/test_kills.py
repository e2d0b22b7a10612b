"""No acknowledged job is lost and none is completed twice, whichever processes are killed, and however often.

I2V_SERVER_KILLS sets the number of kills (50, or 1000 with `make soak`), I2V_SOAK_SEED their order and moments.
"""

import os
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from runtime.jobs import MAX_ATTEMPTS
from tests.runtime.conftest import LONG, SMALL, Server, wait_until
from tests.runtime.killing import Killer, Load, Log, frames_in, is_dead, targets

SEED = int(os.environ.get("I2V_SOAK_SEED", "7"))
#: In calls of several jobs a kill breaks off several attempts.
SERVER = ("--no-warmup", "--max-waiting", "16", "--batch", "3")


def kills(usual: int) -> int:
    return int(os.environ.get("I2V_SERVER_KILLS", usual))


@pytest.mark.timeout(1200)
def test_no_acknowledged_job_is_lost_and_none_completed_twice_by_kills(
    tmp_path: Path, new_server: Callable[..., Server]
) -> None:
    kill_at_random(kills(50), tmp_path, new_server)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_no_acknowledged_job_is_lost_and_none_completed_twice_by_very_many_kills(
    tmp_path: Path, new_server: Callable[..., Server]
) -> None:
    kill_at_random(kills(1000), tmp_path, new_server)


def kill_at_random(number: int, tmp_path: Path, new_server: Callable[..., Server]) -> None:
    """Kills what runs the jobs of several clients, so many times, and then holds everything against the log."""
    say(f"seed {SEED}, {number} kills")
    chance = random.Random(SEED)
    log = Log(tmp_path / "data")
    server = new_server(*SERVER)
    killer = Killer(server, log)
    order = targets(number, chance)
    with Load(server, SEED) as load:
        for target in order:
            if chance.random() < 0.75:  # the others come in the midst of what the last one set off
                killer.wait_until_replaced()
            time.sleep(chance.uniform(0.0, 2.0))
            killer.kill(target)
            assert not load.faults
        killer.wait_until_replaced()
    assert load.faults == []
    everything_is_as_it_was_told(log, load, server)
    assert server.stop() == 0
    wait_until(lambda: all(map(is_dead, killer.seen)))
    nothing_is_left_over_or_missing(tmp_path / "data", load.fetched)
    attempts = log.attempts()
    ends = Counter(attempt.ended.code or attempt.ended.became for tries in attempts.values() for attempt in tries)
    say(f"{number} kills ({dict(Counter(order))}), {len(load.acknowledged)} jobs; attempts ended {dict(ends)}")


def everything_is_as_it_was_told(log: Log, load: Load, server: Server) -> None:
    """All that was acknowledged, and nothing else, was made once, or given up after three attempts that kills ended."""
    attempts, windows = log.attempts(), log.windows()
    assert set(attempts) == set(load.acknowledged)
    for video, tries in attempts.items():
        *broken_off, last = tries
        told = server.video(video)
        assert all(attempt.ended.became == "queued" for attempt in broken_off)
        assert (told["status"], told["attempts"]) == (last.ended.became, last.ended.attempts)
        assert last.ended.became == "completed" or last.ended.code == "attempts_exhausted", last
        assert (video in load.fetched) == (last.ended.became == "completed")
        counted = [attempt for attempt in tries if attempt.broken_off]
        assert len(counted) == (MAX_ATTEMPTS if last.broken_off else last.ended.attempts - 1), tries
        for attempt in counted:
            assert any(window.touches(attempt.began, attempt.ended) for window in windows), attempt


def nothing_is_left_over_or_missing(data: Path, fetched: Mapping[str, bytes]) -> None:
    """The files are the videos of the completed jobs, all of them, whole, and what their clients got."""
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as database:
        completed = database.execute("SELECT id, lease FROM jobs WHERE status = 'completed'").fetchall()
    expected = {f"{video}.{lease}.mp4": video for video, lease in completed}
    assert expected
    assert {path.name for path in (data / "videos").iterdir()} == set(expected)
    assert list((data / "pictures").iterdir()) == []
    for name, video in expected.items():
        assert (data / "videos" / name).read_bytes() == fetched[video]
        assert frames_in(data / "videos" / name) == int(SMALL["num_frames"])


def test_a_job_that_kills_its_worker_fails_after_three_attempts_and_those_beside_it_are_made(
    tmp_path: Path, new_server: Callable[..., Server]
) -> None:
    log = Log(tmp_path / "data")
    server = new_server(*SERVER)
    killer = Killer(server, log)
    before = [server.submit(SMALL) for _ in range(3)]
    poison = server.submit(LONG)
    after = [server.submit(SMALL) for _ in range(3)]
    for attempt in range(1, MAX_ATTEMPTS + 1):
        killer.worker_at(poison, attempt)
    failed = server.wait_for(poison, "failed")
    assert (failed["error"]["code"], failed["attempts"]) == ("attempts_exhausted", MAX_ATTEMPTS)
    for video in (*before, *after):
        server.wait_for(video, "completed")
    assert server.stop() == 0
    attempts = log.attempts()
    assert [attempt.broken_off for attempt in attempts.pop(poison)] == [True] * MAX_ATTEMPTS
    assert set(attempts) == {*before, *after}
    for tries in attempts.values():  # one that shared the worker with it at first has lost one attempt, and no more
        assert [attempt.broken_off for attempt in tries] in ([False], [True, False])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
