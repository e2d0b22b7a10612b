"""What the dispatcher does where memory is short, or the disk, with a worker that only claims to have a GPU."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from runtime import dispatcher as dispatching
from runtime.footprint import Knobs, Residency
from tests.runtime.claimed_gpu import Gpu, Shop, open_shop, served
from tests.runtime.conftest import PHOTO, wait_until

GIB = 2**30
LONG_AGO = 0.05


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    with ExitStack() as opened:
        yield lambda gib, *models: opened.enter_context(open_shop(Gpu(round(gib * GIB)), tmp_path, *models))


def test_a_model_is_loaded_as_the_standard_preset_needs_it(shop: Callable[..., Shop]) -> None:
    small = shop(15, "cogvideox-5b-i2v")
    small.wait_for(small.submit("cogvideox-5b-i2v"))
    assert small.gpu.loaded == [("cogvideox-5b-i2v", Residency("model"))]
    assert small.gpu.knobs() == [Knobs(tiling=True)]


def test_a_large_video_has_the_model_loaded_otherwise_and_a_small_one_after_it_does_not(
    shop: Callable[..., Shop],
) -> None:
    card = shop(7.3, "i2vgen-xl")
    plain, large, again = (card.submit("i2vgen-xl", preset) for preset in ("preview", "24gb", "preview"))
    for job in (plain, large, again):
        assert card.wait_for(job).attempts == 1
    assert [residency for _, residency in card.gpu.loaded] == [Residency(), Residency("group")]
    assert [residency.offload for _, residency in card.gpu.tasks] == ["none", "group", "group"]


def test_when_nothing_has_come_for_a_while_the_model_is_loaded_as_usual_again(
    shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "_SWEEP_SECONDS", LONG_AGO)
    card = shop(7.3, "i2vgen-xl")
    card.wait_for(card.submit("i2vgen-xl", "24gb"))
    wait_until(lambda: card.dispatcher.state.ready and card.dispatcher.state.residency == Residency(), seconds=30)
    assert [residency.offload for _, residency in card.gpu.loaded] == ["none", "group", "none"]
    time.sleep(10 * LONG_AGO)
    assert len(card.gpu.loaded) == 3  # as usual is where it stays
    card.wait_for(card.submit("i2vgen-xl", "preview"))


def test_files_that_are_being_written_are_waited_for_before_the_worker_is_replaced(shop: Callable[..., Shop]) -> None:
    card = shop(7.3, "i2vgen-xl")
    card.gpu.may_write.clear()
    early, large = card.submit("i2vgen-xl", "preview"), card.submit("i2vgen-xl", "24gb")
    wait_until(lambda: card.job(large).lease, seconds=30)  # it was taken, and put back
    time.sleep(LONG_AGO)
    assert len(card.gpu.loaded) == 1
    card.gpu.may_write.set()
    assert card.wait_for(early).attempts == 1
    assert card.wait_for(large).attempts == 1
    assert len(card.gpu.loaded) == 2


def test_what_fits_in_no_way_fails_and_says_what_would(shop: Callable[..., Shop]) -> None:
    card = shop(4.5, "i2vgen-xl")
    failed = card.wait_for(card.submit("i2vgen-xl", "40gb"), "failed")
    assert failed.error_code == "does_not_fit"
    assert "what would fit" in str(failed.error_message)
    card.wait_for(card.submit("i2vgen-xl", "preview"))


def test_what_ran_out_of_memory_is_tried_again_with_less_and_made(shop: Callable[..., Shop]) -> None:
    card = shop(24, "i2vgen-xl")
    card.gpu.takes = lambda task, _: (20 if task.knobs == Knobs(2) else 30) * GIB
    assert card.wait_for(card.submit("i2vgen-xl")).attempts == 2
    assert card.gpu.knobs() == [Knobs(), Knobs(2)]
    assert card.wait_for(card.submit("i2vgen-xl")).attempts == 1  # it was learnt
    assert card.gpu.knobs()[2:] == [Knobs(2)]


def test_what_runs_out_of_memory_three_times_fails_as_that(shop: Callable[..., Shop]) -> None:
    card = shop(24, "i2vgen-xl")
    card.gpu.takes = lambda *_: 30 * GIB
    failed = card.wait_for(card.submit("i2vgen-xl"), "failed")
    assert (failed.error_code, failed.attempts) == ("out_of_memory", 3)
    assert "more than there is" in str(failed.error_message)
    assert len(set(card.gpu.knobs())) == 3


def test_after_a_switch_each_job_is_made_by_the_model_it_was_accepted_for(shop: Callable[..., Shop]) -> None:
    card = shop(6, "i2vgen-xl", "svd-xt")  # both at once do not fit
    card.gpu.may_write.clear()
    old = [card.submit("i2vgen-xl", "preview") for _ in range(3)]
    wait_until(lambda: card.gpu.tasks, seconds=30)
    card.dispatcher.reload("svd-xt")
    wait_until(lambda: card.dispatcher.accepted.id == "svd-xt", seconds=30)
    new = card.submit("svd-xt", "preview")
    card.gpu.may_write.set()
    for job in (*old, new):
        card.wait_for(job)
    assert [name for name, _ in card.gpu.loaded] == ["i2vgen-xl", "svd-xt"]
    assert len(card.gpu.tasks) == 4


def test_with_room_for_both_the_next_worker_is_made_ready_beside_the_one_that_serves(
    shop: Callable[..., Shop],
) -> None:
    card = shop(80, "i2vgen-xl", "svd-xt")
    card.wait_for(card.submit("i2vgen-xl", "preview"))
    card.dispatcher.reload("svd-xt")
    wait_until(lambda: card.dispatcher.state.reloading is None, seconds=30)
    assert (card.dispatcher.accepted.id, card.dispatcher.state.ready) == ("svd-xt", True)
    card.wait_for(card.submit("svd-xt", "preview"))
    card.dispatcher.reload("i2vgen-xl")
    wait_until(lambda: card.dispatcher.accepted.id == "i2vgen-xl", seconds=30)
    card.wait_for(card.submit("i2vgen-xl", "preview"))
    assert [name for name, _ in card.gpu.loaded] == ["i2vgen-xl", "svd-xt", "i2vgen-xl"]


def test_a_video_that_the_store_cannot_record_yet_is_kept_until_it_can(shop: Callable[..., Shop]) -> None:
    card = shop(24, "i2vgen-xl")
    with closing(sqlite3.connect(card.database, isolation_level=None)) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON jobs WHEN NEW.status = 'completed' "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        job = card.submit("i2vgen-xl", "preview")
        wait_until(lambda: card.store.video(card.job(job)).exists(), seconds=30)
        time.sleep(LONG_AGO)
        assert card.job(job).status == "in_progress"
        database.execute("DROP TRIGGER full")
    assert card.wait_for(job).attempts == 1
    assert len(card.gpu.tasks) == 1


def test_over_http_what_does_not_fit_is_refused_at_once_with_what_would(shop: Callable[..., Shop]) -> None:
    card = shop(7.3, "i2vgen-xl")
    wait_until(lambda: card.dispatcher.state.ready, seconds=30)
    with served(card) as url:
        answer = requests.post(
            f"{url}/v1/videos",
            data={"size": "1024x1024", "num_frames": "48"},
            files={"input_reference": ("photo.jpg", PHOTO.read_bytes())},
            timeout=30,
        )
        options = requests.get(f"{url}/v1/options", timeout=30).json()
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "does_not_fit")
    assert "what would fit: 1024x1024 with" in answer.json()["error"]["message"]
    fits = {preset["name"]: preset["fits"] for preset in options["presets"]}
    assert fits == {"standard": True, "preview": True, "12gb": True, "24gb": True, "40gb": False}
