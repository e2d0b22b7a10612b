import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.jobs import MAX_ATTEMPTS, Job, JobStore, QueueFull
from runtime.models import model
from runtime.options import build_request
from runtime.problems import RuntimeProblem

REQUEST = build_request("preview", model=model("demo"), seed=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "data")
    yield store
    store.close()


def add(store: JobStore) -> Job:
    return store.add("demo", REQUEST, b"the picture")


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
    partial = store.video(done).with_name(".partial")
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
