"""The job store by itself: its order, its leases, its keys, how long it keeps what, and what it bears."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runtime.bounds import InvalidOption
from runtime.formats import FORMATS
from runtime.jobs import MAX_ATTEMPTS, DiskFull, Job, JobStore, KeyReused, QueueFull
from runtime.models import model
from runtime.options import GenerationRequest, build_request
from runtime.problems import RuntimeProblem
from runtime.retention import Clock
from tests.loop_disk import loop_disk
from tests.runtime import killed_store
from tests.runtime.conftest import ROOT

REQUEST = build_request("preview", model=model("demo"), seed=1)
OTHER = replace(REQUEST, num_frames=4)
PICTURE = b"the picture"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "data")
    yield store
    store.close()


def add(store: JobStore) -> Job:
    return store.add("demo", REQUEST, PICTURE)


def claim(store: JobStore) -> Job:
    job = store.claim()
    assert job is not None
    return job


def get(store: JobStore, job_id: str) -> Job:
    job = store.get(job_id)
    assert job is not None
    return job


def reopened(store: JobStore, tmp_path: Path) -> JobStore:
    """The store as another process finds it after a kill: nothing was told to it."""
    store.close()
    return JobStore(tmp_path / "data")


def test_jobs_are_claimed_in_the_order_in_which_they_came(store: JobStore) -> None:
    first, second = add(store), add(store)
    assert (store.ahead_of(first), store.ahead_of(second)) == (0, 1)
    assert [claim(store).id, claim(store).id] == [first.id, second.id]
    assert store.claim() is None


def test_a_finished_job_keeps_its_video_and_gives_up_its_picture(store: JobStore) -> None:
    add(store)
    job = claim(store)
    assert store.picture(job.id).read_bytes() == b"the picture"
    store.video(job).write_bytes(b"the video")
    assert store.finish(job, {"denoise": 1.5})
    done = get(store, job.id)
    assert (done.status, done.seconds, done.request) == ("completed", {"denoise": 1.5}, REQUEST)
    assert store.video(done).read_bytes() == b"the video"
    assert not store.picture(job.id).exists()


def test_a_late_finish_with_an_old_lease_changes_nothing(store: JobStore) -> None:
    add(store)
    old = claim(store)
    store.give_back(old, counts=True)
    new = claim(store)
    store.video(old).write_bytes(b"late")
    store.video(new).write_bytes(b"in time")
    assert not store.finish(old, {})
    assert not store.fail(old, "late", "late")
    assert store.finish(new, {})
    assert not store.finish(new, {})
    assert store.video(get(store, new.id)).read_bytes() == b"in time"
    assert not store.video(old).exists()


def test_a_job_that_kills_its_worker_is_given_up_after_three_attempts(store: JobStore) -> None:
    job = add(store)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claimed = claim(store)
        assert (claimed.id, claimed.attempts) == (job.id, attempt)
        store.give_back(claimed, counts=True)
    assert store.claim() is None
    assert (get(store, job.id).status, get(store, job.id).error_code) == ("failed", "attempts_exhausted")


def test_an_attempt_that_a_clean_stop_ended_does_not_count(store: JobStore) -> None:
    add(store)
    for _ in range(MAX_ATTEMPTS + 1):
        claimed = claim(store)
        assert claimed.attempts == 1
        store.give_back(claimed, counts=False)


def test_the_queue_is_bounded_and_a_running_job_takes_no_place(store: JobStore) -> None:
    for _ in range(store.max_waiting):
        add(store)
    with pytest.raises(QueueFull):
        add(store)
    claim(store)
    add(store)
    with pytest.raises(QueueFull):
        store.check_room()


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from runtime.jobs import JobStore\n"
        "from runtime.models import model\n"
        "from runtime.options import build_request\n"
        "store = JobStore(pathlib.Path(sys.argv[1]))\n"
        "wanted = build_request('preview', model=model('demo'))\n"
        "print(*[store.add('demo', wanted, b'x').id for _ in range(3)], flush=True)\n"
        "store.claim(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "data"], capture_output=True, text=True, check=False)
    assert run.returncode == -9
    store = JobStore(tmp_path / "data")
    claimed = [claim(store) for _ in range(3)]
    assert [job.id for job in claimed] == run.stdout.split()
    assert [job.attempts for job in claimed] == [2, 1, 1]
    store.close()


def test_a_job_that_was_interrupted_three_times_is_not_begun_again(tmp_path: Path, store: JobStore) -> None:
    job = add(store)
    for _ in range(MAX_ATTEMPTS):
        assert claim(store).id == job.id
        store = reopened(store, tmp_path)
    assert store.claim() is None
    assert get(store, job.id).error_code == "attempts_exhausted"
    store.close()


def test_files_without_a_job_are_swept_at_the_start(tmp_path: Path, store: JobStore) -> None:
    kept = add(store)
    add(store)
    orphan = store.picture("video_nobody")
    orphan.write_bytes(b"x")
    claim(store)
    done = claim(store)
    store.video(done).write_bytes(b"the video")
    store.finish(done, {})
    partial = store.video(done).with_name(f".{store.video(done).name}.123.part")
    partial.write_bytes(b"x")
    store = reopened(store, tmp_path)
    assert not orphan.exists()
    assert not partial.exists()
    assert store.picture(kept.id).exists()
    assert store.video(done).exists()
    store.close()


def test_a_cancelled_job_is_failed_and_its_attempt_comes_too_late(store: JobStore) -> None:
    job = add(store)
    claimed = claim(store)
    assert store.cancel(job.id)
    assert not store.cancel(job.id)
    assert not store.finish(claimed, {})
    assert (get(store, job.id).status, get(store, job.id).error_code) == ("failed", "cancelled")
    assert store.remove(job.id)
    assert store.get(job.id) is None


def test_an_unfinished_job_cannot_be_removed(store: JobStore) -> None:
    job = add(store)
    assert not store.remove(job.id)
    assert store.get(job.id) is not None


def test_one_process_at_a_time(tmp_path: Path, store: JobStore) -> None:
    with pytest.raises(RuntimeProblem, match="another server uses"):
        JobStore(tmp_path / "data")


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeProblem, match="cannot use") as raised:
        JobStore(tmp_path / "file" / "data")
    assert "--data-dir" in raised.value.hint


def files(tmp_path: Path) -> dict[str, set[str]]:
    """The names of the files that lie beside the database."""
    data = tmp_path / "data"
    return {folder: {path.name for path in (data / folder).iterdir()} for folder in ("pictures", "videos")}


def finished(store: JobStore, size: int = 10) -> Job:
    """A new job, claimed and finished with a video of that many bytes."""
    job = add(store)
    claimed = claim(store)
    assert claimed.id == job.id
    store.video(claimed).write_bytes(b"v" * size)
    assert store.finish(claimed, {})
    return get(store, job.id)


def execute(tmp_path: Path, statement: str, *values: Any) -> None:
    """Changes the database behind the back of the store."""
    database = sqlite3.connect(tmp_path / "data" / "jobs.sqlite3")
    with database:
        database.execute(statement, values)
    database.close()


# What a half-done attempt leaves


def test_an_attempt_that_is_given_back_leaves_no_half_written_video(tmp_path: Path, store: JobStore) -> None:
    add(store)
    job = claim(store)
    store.video(job).with_name(f".{store.video(job).name}.123.part").write_bytes(b"half")
    store.video(job).write_bytes(b"whole, and never told")
    store.give_back(job, counts=True)
    assert files(tmp_path)["videos"] == set()


def test_an_attempt_that_fails_leaves_no_file(tmp_path: Path, store: JobStore) -> None:
    add(store)
    job = claim(store)
    store.video(job).write_bytes(b"black frames")
    assert store.fail(job, "generation_failed", "the frames are black")
    assert files(tmp_path) == {"pictures": set(), "videos": set()}


def test_what_a_late_worker_wrote_goes_when_the_job_is_finished(tmp_path: Path, store: JobStore) -> None:
    add(store)
    old = claim(store)
    store.give_back(old, counts=True)
    store.video(old).write_bytes(b"late")  # its worker was not dead yet
    new = claim(store)
    store.video(new).write_bytes(b"in time")
    assert store.finish(new, {})
    assert files(tmp_path) == {"pictures": set(), "videos": {f"{new.id}.2.mp4"}}


def test_an_attempt_holds_its_job_until_it_ends(store: JobStore) -> None:
    add(store)
    old = claim(store)
    assert store.holds(old)
    store.give_back(old, counts=False)
    assert not store.holds(old)
    new = claim(store)
    assert (store.holds(old), store.holds(new)) == (False, True)
    store.cancel(new.id)
    assert not store.holds(new)


# Idempotency


def test_the_same_key_gives_the_same_job_in_whatever_state(tmp_path: Path, store: JobStore) -> None:
    job = store.add("demo", REQUEST, PICTURE, key="mine")
    for _ in range(store.max_waiting - 1):
        add(store)
    assert store.add("demo", REQUEST, PICTURE, key="mine") == job  # though the queue is full
    assert len(files(tmp_path)["pictures"]) == store.max_waiting
    claimed = claim(store)
    assert store.add("demo", REQUEST, PICTURE, key="mine") == claimed
    store.finish(claimed, {})
    assert store.add("demo", REQUEST, PICTURE, key="mine").status == "completed"
    assert store.with_key("mine") == get(store, job.id)
    assert store.with_key("another") is None


@pytest.mark.parametrize("other", [("svd", REQUEST, PICTURE), ("demo", OTHER, PICTURE), ("demo", REQUEST, b"other")])
def test_the_same_key_for_something_else_is_refused(
    tmp_path: Path, store: JobStore, other: tuple[str, GenerationRequest, bytes]
) -> None:
    job = store.add("demo", REQUEST, PICTURE, key="mine")
    with pytest.raises(KeyReused):
        store.add(*other, key="mine")
    assert files(tmp_path)["pictures"] == {f"{job.id}.bmp"}


def test_what_the_client_sent_decides_and_not_the_seed_that_was_drawn(store: JobStore) -> None:
    job = store.add("demo", REQUEST, PICTURE, key="mine", fingerprint="what was sent")
    assert store.add("demo", OTHER, PICTURE, key="mine", fingerprint="what was sent") == job
    with pytest.raises(KeyReused):
        store.add("demo", REQUEST, PICTURE, key="mine", fingerprint="something else")


def test_many_adds_at_once_with_one_key_make_one_job(tmp_path: Path, store: JobStore) -> None:
    at_once = threading.Barrier(8)

    def add_one(_: int) -> str:
        at_once.wait()
        return store.add("demo", REQUEST, PICTURE, key="mine").id

    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(add_one, range(8)))
    assert len(made) == 1
    assert files(tmp_path)["pictures"] == {f"{made.pop()}.bmp"}
    assert len(store.listing().jobs) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "two\nlines", "\x00"])
def test_a_key_is_short_text(store: JobStore, key: str) -> None:
    with pytest.raises(InvalidOption, match="idempotency key"):
        store.add("demo", REQUEST, PICTURE, key=key)


def test_a_key_is_remembered_over_a_restart_and_as_long_as_its_job(tmp_path: Path, store: JobStore) -> None:
    job = store.add("demo", REQUEST, PICTURE, key="x" * 255)
    store = reopened(store, tmp_path)
    assert store.add("demo", REQUEST, PICTURE, key="x" * 255) == job
    store.cancel(job.id)
    store.remove(job.id)
    assert store.add("demo", OTHER, PICTURE, key="x" * 255).id != job.id
    store.close()


# Claims


def test_only_jobs_of_a_model_are_claimed_for_it(store: JobStore) -> None:
    first = store.add("svd", REQUEST, PICTURE)
    second = store.add("demo", REQUEST, PICTURE)
    third = store.add("svd", REQUEST, PICTURE)
    assert store.models_waiting() == ("svd", "demo")
    assert store.claim_batch("demo", 5)[0].id == second.id
    assert store.claim("demo") is None
    assert store.models_waiting() == ("svd", "demo")  # what is in progress is not done
    assert [job.id for job in store.claim_batch("svd", 5)] == [first.id, third.id]
    store.cancel(second.id)
    assert store.models_waiting() == ("svd",)


def test_a_batch_is_of_one_shape_and_the_longest_waiting_job_is_in_it(store: JobStore) -> None:
    store.max_waiting = 6
    for _ in range(2):
        store.add("demo", OTHER, PICTURE)
        store.add("demo", replace(OTHER, prompt="its own", seed=9, output_format="gif"), PICTURE)
        store.add("demo", REQUEST, PICTURE)
    assert [job.number for job in store.claim_batch("demo", 3)] == [1, 2, 4]
    assert [job.number for job in store.claim_batch("demo", 3)] == [3, 6]
    assert [job.number for job in store.claim_batch("demo", 3)] == [5]
    assert store.claim_batch("demo", 3) == ()


@pytest.mark.parametrize("name", ["width", "height", "num_frames", "num_inference_steps", "guidance_scale", "fps"])
def test_what_one_call_has_for_all_videos_parts_batches(store: JobStore, name: str) -> None:
    store.add("demo", REQUEST, PICTURE)
    store.add("demo", replace(REQUEST, **{name: getattr(REQUEST, name) + 16}), PICTURE)
    assert len(store.claim_batch("demo", 2)) == 1


def test_a_job_whose_worker_died_is_made_alone(store: JobStore) -> None:
    for _ in range(4):
        add(store)
    suspects = store.claim_batch("demo", 2)
    for job in suspects:
        store.give_back(job, counts=True)
    assert [job.attempts for job in store.claim_batch("demo", 4)] == [2]
    assert [job.attempts for job in store.claim_batch("demo", 4)] == [2]
    unharmed = store.claim_batch("demo", 4)
    assert [job.attempts for job in unharmed] == [1, 1]
    for job in unharmed:
        store.give_back(job, counts=False)
    again = store.claim_batch("demo", 4)
    assert [(job.attempts, job.lease) for job in again] == [(1, 2), (1, 2)]


def test_a_suspect_is_passed_over_by_a_batch_that_began_without_it(store: JobStore) -> None:
    early, suspect = add(store), add(store)
    first = claim(store)
    store.give_back(claim(store), counts=True)
    store.give_back(first, counts=False)
    late = add(store)
    assert [job.id for job in store.claim_batch("demo", 3)] == [early.id, late.id]
    assert [job.id for job in store.claim_batch("demo", 3)] == [suspect.id]


def test_batches_claimed_at_once_share_no_job(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "data", max_waiting=60)
    for _ in range(60):
        add(store)
    with ThreadPoolExecutor(6) as threads:
        batches = list(threads.map(lambda _: store.claim_batch("demo", 3), range(20)))
    taken = [job.id for batch in batches for job in batch]
    assert len(taken) == len(set(taken)) == 60
    store.close()


# Listing


def test_pages_give_every_job_once_in_either_order(store: JobStore) -> None:
    ids = [finished(store).id for _ in range(5)]
    for newest_first in (True, False):
        seen: list[str] = []
        page = store.listing(2, newest_first=newest_first)
        while page.jobs:
            seen += [job.id for job in page.jobs]
            assert page.has_more == (len(seen) < 5)
            page = store.listing(2, seen[-1], newest_first=newest_first)
        assert seen == (ids[::-1] if newest_first else ids)
    assert store.listing(5).has_more is False


def test_a_page_after_a_job_that_is_gone_or_of_another_size_is_refused(store: JobStore) -> None:
    with pytest.raises(InvalidOption, match="after"):
        store.listing(2, "video_gone")
    for limit in (0, 101):
        with pytest.raises(InvalidOption, match="limit"):
            store.listing(limit)


# Retention


@dataclass
class Hands:
    """Both clocks of a machine, which go on together unless somebody sets one."""

    wall: float = 1_800_000_000.0
    steady: float = 50.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def make_store(tmp_path: Path, hands: Hands) -> Iterator[Callable[..., JobStore]]:
    """Opens the store of the test by its clock; the one before is closed."""
    opened: list[JobStore] = []

    def make(**settings: Any) -> JobStore:
        if opened:
            opened[-1].close()
        opened.append(JobStore(tmp_path / "data", clock=hands.clock, **settings))
        return opened[-1]

    yield make
    opened[-1].close()


def ids(store: JobStore) -> set[str]:
    return {job.id for job in store.listing(100).jobs}


def test_what_has_been_kept_for_its_time_goes_and_unfinished_jobs_never(
    tmp_path: Path, hands: Hands, make_store: Callable[..., JobStore]
) -> None:
    store = make_store(keep_seconds=1000)
    old = finished(store)
    add(store)
    failed = claim(store)
    store.fail(failed, "generation_failed", "no video")
    hands.go_on(600)
    young = finished(store)
    add(store)
    running, waiting = claim(store), add(store)
    assert store.expires_at(old) == hands.wall + 400
    assert store.expires_at(running) is None
    hands.go_on(399)
    assert store.sweep() == 0
    hands.go_on(1)
    assert store.sweep() == 2
    assert ids(store) == {young.id, running.id, waiting.id}
    assert files(tmp_path)["videos"] == {store.video(young).name}
    hands.go_on(10**9)
    assert store.sweep() == 1
    assert ids(store) == {running.id, waiting.id}
    assert store.finish(running, {})


def test_the_oldest_videos_go_when_the_room_is_used_up_and_the_newest_stays(
    tmp_path: Path, hands: Hands, make_store: Callable[..., JobStore]
) -> None:
    store = make_store(keep_bytes=100, keep_seconds=None)
    add(store)
    failed = claim(store)
    store.fail(failed, "generation_failed", "no video")
    videos = []
    for size in (10, 60, 40):
        hands.go_on(1)
        videos.append(finished(store, size))
    assert store.expires_at(videos[0]) is None
    assert store.sweep() == 1
    assert ids(store) == {failed.id, videos[1].id, videos[2].id}
    huge = finished(store, 1000)
    assert store.sweep() == 2
    assert ids(store) == {failed.id, huge.id}  # a row takes no room
    assert files(tmp_path)["videos"] == {store.video(huge).name}


def test_without_limits_everything_is_kept(hands: Hands, make_store: Callable[..., JobStore]) -> None:
    store = make_store(keep_bytes=None, keep_seconds=None)
    finished(store)
    hands.go_on(10**9)
    assert make_store(keep_bytes=None, keep_seconds=None).sweep() == 0


@pytest.mark.parametrize("jump", [10**9, -(10**9)])
def test_a_clock_that_is_set_while_the_server_runs_removes_and_keeps_nothing(
    jump: float, hands: Hands, make_store: Callable[..., JobStore]
) -> None:
    store = make_store(keep_seconds=1000)
    finished(store)
    waiting = add(store)
    hands.wall += jump
    assert store.sweep() == 0
    hands.go_on(999)
    assert store.sweep() == 0
    hands.go_on(1)
    assert store.sweep() == 1
    assert claim(store).id == waiting.id


@pytest.mark.parametrize(("jump", "left"), [(10**9, 100), (-(10**9), 600)])
def test_a_clock_that_was_wrong_at_a_start_removes_nothing_that_had_most_of_its_time(
    jump: float, left: float, hands: Hands, make_store: Callable[..., JobStore]
) -> None:
    store = make_store(keep_seconds=1000)
    finished(store)
    hands.go_on(400)
    store.sweep()
    hands.wall += jump
    hands.steady = 3.0  # the machine was started anew
    store = make_store(keep_seconds=1000)
    hands.go_on(left - 1)
    assert store.sweep() == 0
    hands.go_on(1)
    assert store.sweep() == 1


def test_the_time_in_which_no_server_ran_counts(hands: Hands, make_store: Callable[..., JobStore]) -> None:
    finished(make_store(keep_seconds=1000))
    for _ in range(4):
        hands.wall += 249
        assert make_store(keep_seconds=1000).sweep() == 0
    hands.wall += 4
    assert make_store(keep_seconds=1000).sweep() == 1


# Formats


@pytest.mark.parametrize("name", FORMATS)
def test_a_video_of_any_format_has_its_suffix_outlives_a_restart_and_goes_with_its_job(
    name: str, tmp_path: Path, store: JobStore
) -> None:
    job = store.add("demo", replace(REQUEST, output_format=name), PICTURE)
    claimed = claim(store)
    video = store.video(claimed)
    assert video.suffix == FORMATS[name].suffix
    video.write_bytes(b"the video")
    store.finish(claimed, {})
    store = reopened(store, tmp_path)
    assert store.video(get(store, job.id)).read_bytes() == b"the video"
    assert store.remove(job.id)
    assert not video.exists()
    store.close()


# Other versions, and rows that cannot be read

#: What the first version made, word for word.
VERSION_1 = """
CREATE TABLE IF NOT EXISTS jobs (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    status        TEXT NOT NULL DEFAULT 'queued',
    model         TEXT NOT NULL,
    request       TEXT NOT NULL,
    created_at    REAL NOT NULL,
    started_at    REAL,
    completed_at  REAL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    lease         INTEGER NOT NULL DEFAULT 0,
    error_code    TEXT,
    error_message TEXT,
    seconds       TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number);
PRAGMA user_version = 1;
"""
#: A request as that version wrote it.
OLD_REQUEST = (
    '{"prompt": "clouds", "negative_prompt": "", "width": 64, "height": 64, "num_frames": 4, '
    '"num_inference_steps": 4, "guidance_scale": 9.0, "fps": 8, "seed": 7}'
)
OLD_ROWS = (
    ("video_done", "completed", 1, 1, None, None, '{"denoise": 1.5}'),
    ("video_failed", "failed", 3, 3, "attempts_exhausted", "it ended", "{}"),
    ("video_running", "in_progress", 2, 2, None, None, "{}"),
    ("video_hopeless", "in_progress", 3, 3, None, None, "{}"),
    ("video_waiting", "queued", 0, 0, None, None, "{}"),
)


@pytest.fixture
def old_data(tmp_path: Path) -> Path:
    """A data directory that the first version left when it was killed."""
    data = tmp_path / "data"
    for folder in ("pictures", "videos"):
        (data / folder).mkdir(parents=True)
    database = sqlite3.connect(data / "jobs.sqlite3")
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(VERSION_1)
    with database:
        for job_id, status, attempts, lease, code, message, seconds in OLD_ROWS:
            ended = 1_700_000_000.0 if status in ("completed", "failed") else None
            database.execute(
                "INSERT INTO jobs (id, status, model, request, created_at, completed_at, attempts, lease, error_code, "
                "error_message, seconds) VALUES (?, ?, 'demo', ?, 1690000000.0, ?, ?, ?, ?, ?, ?)",
                (job_id, status, OLD_REQUEST, ended, attempts, lease, code, message, seconds),
            )
            if status in ("queued", "in_progress"):
                (data / "pictures" / f"{job_id}.bmp").write_bytes(b"the picture")
    database.close()
    (data / "videos" / "video_done.1.mp4").write_bytes(b"the video")
    return data


def test_a_file_of_the_first_version_is_taken_over_with_all_its_jobs(old_data: Path) -> None:
    store = JobStore(old_data)
    done, failed = get(store, "video_done"), get(store, "video_failed")
    assert (done.status, done.seconds, done.completed_at, done.key) == ("completed", {"denoise": 1.5}, 1.7e9, None)
    assert (done.request.prompt, done.request.output_format) == ("clouds", "mp4")
    assert store.video(done).read_bytes() == b"the video"
    assert (failed.status, failed.error_code, failed.error_message) == ("failed", "attempts_exhausted", "it ended")
    assert get(store, "video_hopeless").error_code == "attempts_exhausted"
    assert store.sweep() == 0  # it is years old, and nobody was told that it would be removed
    for expected in (("video_running", 3, 3), ("video_waiting", 1, 1)):
        job = claim(store)
        assert (job.id, job.attempts, job.lease) == expected
        assert store.picture(job.id).read_bytes() == b"the picture"
        store.video(job).write_bytes(b"the video")
        assert store.finish(job, {})
    assert store.add("demo", REQUEST, PICTURE, key="mine").number == len(OLD_ROWS) + 1
    store.close()
    JobStore(old_data).close()  # and once more, as a file of this version


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path, store: JobStore) -> None:
    store.close()
    execute(tmp_path, "PRAGMA user_version = 99")
    before = (tmp_path / "data" / "jobs.sqlite3").read_bytes()
    with pytest.raises(RuntimeProblem, match="newer version"):
        JobStore(tmp_path / "data")
    assert (tmp_path / "data" / "jobs.sqlite3").read_bytes() == before


def test_a_file_that_is_no_database_is_said(tmp_path: Path, store: JobStore) -> None:
    store.close()
    (tmp_path / "data" / "jobs.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(RuntimeProblem, match="cannot use"):
        JobStore(tmp_path / "data")


@pytest.mark.parametrize(
    "request_text",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"{}",
        OLD_REQUEST.replace('"width": 64', '"width": 10000000').encode(),
        OLD_REQUEST.replace('"fps": 8, ', "").encode(),
        OLD_REQUEST.replace("}", ', "of the future": 1}').encode(),
        OLD_REQUEST.replace("clouds", "cl\udce4uds").encode(errors="surrogateescape"),
        b"[" * 100_000,
    ],
)
def test_a_job_that_cannot_be_read_fails_and_the_others_are_made(
    request_text: bytes, tmp_path: Path, store: JobStore
) -> None:
    broken, whole = add(store), add(store)
    execute(tmp_path, "UPDATE jobs SET request = CAST(? AS TEXT), seconds = '?' WHERE id = ?", request_text, broken.id)
    store = reopened(store, tmp_path)
    assert get(store, broken.id).unreadable
    assert claim(store).id == whole.id
    failed = get(store, broken.id)
    assert (failed.status, failed.error_code) == ("failed", "unreadable_request")
    assert "cannot be read as it was stored" in (failed.error_message or "")
    assert files(tmp_path)["pictures"] == {f"{whole.id}.bmp"}
    assert {job.id for job in store.listing().jobs} == {broken.id, whole.id}
    store.close()


def test_a_video_whose_request_is_out_of_bounds_by_now_is_still_given(tmp_path: Path, store: JobStore) -> None:
    done = finished(store)
    execute(
        tmp_path, "UPDATE jobs SET request = json_set(request, '$.num_inference_steps', 9999) WHERE id = ?", done.id
    )
    store = reopened(store, tmp_path)
    read = get(store, done.id)
    assert (read.request.width, read.request.prompt, read.status) == (REQUEST.width, REQUEST.prompt, "completed")
    assert store.video(read).exists()
    store.close()


# Kills and full disks


@pytest.mark.parametrize("action", killed_store.ACTIONS)
def test_killed_at_any_step_it_loses_nothing_it_acknowledged_and_leaves_nothing_over(
    action: str, tmp_path: Path
) -> None:
    killed_store.prepared(tmp_path / "prepared")
    known = set(every_job(tmp_path / "prepared"))
    command = [sys.executable, "-m", "tests.runtime.killed_store", action, "prepared", "work"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    steps = run.stdout.splitlines()
    assert len(steps) > 10
    for number, step in enumerate(steps, 1):
        found = every_job(tmp_path / "work" / str(number))
        missing = known - set(found)
        new = set(found) - known
        state, _, said = step.partition(" ")
        assert (state, bool(said)) == (("done", True) if number == len(steps) else ("killed", False))
        if action == "add":
            assert (missing, len(new)) in [(set(), 0), (set(), 1)]
            assert not said or new == {said}
        else:
            assert new == set()
            assert len(missing) <= (action in ("sweep", "remove"))
        assert not said or action != "work" or found[said] == "completed"


def every_job(data: Path) -> dict[str, str]:
    """The status of each job of a store as the next server finds it; its files are those of its jobs, and all are."""
    store = JobStore(data)
    jobs = store.listing(100).jobs
    store.close()
    files = {path.name for folder in ("pictures", "videos") for path in (data / folder).iterdir()}
    pictures = {store.picture(job.id).name for job in jobs if job.status == "queued"}
    assert files == pictures | {store.video(job).name for job in jobs if job.status == "completed"}
    assert {job.status for job in jobs} <= {"queued", "completed", "failed"}
    return {job.id: job.status for job in jobs}


def test_a_full_disk_refuses_the_job_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with loop_disk(tmp_path / "image", tmp_path / "data", 16) as disk:
        store = JobStore(disk, max_waiting=10_000)
        picture = bytes(200_000)
        taken: list[str] = []

        def fill(request: GenerationRequest, picture: bytes) -> None:
            while True:
                taken.append(store.add("demo", request, picture, key=f"key {len(taken)}").id)

        with pytest.raises(DiskFull, match="disk is full"):
            fill(REQUEST, picture)
        assert {path.stem for path in (disk / "pictures").iterdir()} == set(taken)
        # A row takes less than a picture: now the database runs full.
        with pytest.raises(DiskFull) as raised:
            fill(replace(REQUEST, prompt="x" * 2000), b"")
        assert isinstance(raised.value.__cause__, sqlite3.Error)
        assert {path.stem for path in (disk / "pictures").iterdir()} == set(taken)
        assert {job.id for job in all_of(store)} == set(taken)
        for path in list((disk / "pictures").iterdir())[:10]:
            path.write_bytes(b"")
        taken.append(store.add("demo", REQUEST, picture).id)
        assert claim(store).id == taken[0]
        store.close()


def all_of(store: JobStore) -> Iterator[Job]:
    page = store.listing(100)
    yield from page.jobs
    while page.has_more:
        page = store.listing(100, page.jobs[-1].id)
        yield from page.jobs


def test_a_fast_job_is_kept_and_shares_no_call(store: JobStore) -> None:
    fast = replace(REQUEST, fast=True)
    for request in (REQUEST, fast, REQUEST, fast):
        store.add("demo", request, PICTURE)
    claimed = [store.claim_batch("demo", 4) for _ in range(3)]
    assert [[job.number for job in jobs] for jobs in claimed] == [[1, 3], [2], [4]]
    assert [[job.request for job in jobs] for jobs in claimed] == [[REQUEST, REQUEST], [fast], [fast]]
