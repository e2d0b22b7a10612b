"""What earlier calls say of the next: its time and its memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.footprint import Knobs
from runtime.measurements import Kind, Measurements
from runtime.messages import Call
from runtime.models import model
from runtime.options import build_request

KIND = Kind("a GPU", "demo", "fp16")
SMALL = build_request("preview", model=model("demo"), size="256x256", num_frames=8, num_inference_steps=10, seed=1)
LARGE = replace(SMALL, width=512, height=512, num_frames=16)


@pytest.fixture
def measurements(tmp_path: Path) -> Iterator[Measurements]:
    opened = Measurements(tmp_path / "measurements.sqlite3")
    yield opened
    opened.close()


def call(denoise: float = 10.0, peak: int = 100, batch: int = 1) -> Call:
    return Call(SMALL, Knobs(), batch, denoise, 2.0, peak)


def test_nothing_is_known_of_what_was_never_measured(measurements: Measurements) -> None:
    measurements.add(KIND, call())
    assert measurements.expected(replace(KIND, device="another GPU"), SMALL) is None
    assert measurements.peak(KIND, LARGE, 1, Knobs()) is None
    assert measurements.peak(KIND, SMALL, 2, Knobs()) is None
    assert measurements.peak(KIND, SMALL, 1, Knobs(1)) is None


def test_the_time_of_the_same_shape_is_the_median_of_the_latest_and_follows_the_steps(
    measurements: Measurements,
) -> None:
    for denoise in (99.0, 10.0, 11.0, 10.0, 9.0, 50.0):
        measurements.add(KIND, call(denoise), encode=1.0)
    expected = measurements.expected(KIND, SMALL)
    assert expected is not None
    assert expected.seconds == pytest.approx(10 + 2 + 1)
    assert expected.sure
    longer = measurements.expected(KIND, replace(SMALL, num_inference_steps=20))
    assert longer is not None
    assert longer.seconds == pytest.approx(20 + 2 + 1)


def test_the_time_of_another_shape_is_scaled_and_not_sure(measurements: Measurements) -> None:
    measurements.add(KIND, call())
    expected = measurements.expected(KIND, LARGE)
    assert expected is not None
    assert expected.seconds == pytest.approx(8 * 12)
    assert not expected.sure


def test_a_video_of_a_batch_takes_its_share_of_the_time(measurements: Measurements) -> None:
    measurements.add(KIND, call(batch=2))
    expected = measurements.expected(KIND, SMALL)
    assert expected is not None
    assert expected.seconds == pytest.approx(5 + 1)


def test_the_largest_peak_counts_also_one_that_ran_out(measurements: Measurements) -> None:
    for peak in (100, 300, 200, 0):
        measurements.add(KIND, call(peak=peak))
    assert measurements.peak(KIND, SMALL, 1, Knobs()) == 300
    measurements.ran_out(KIND, SMALL, 1, Knobs(), 1000)
    assert measurements.peak(KIND, SMALL, 1, Knobs()) == 1000


def test_they_are_kept_over_a_restart_and_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "measurements.sqlite3"
    first = Measurements(path)
    first.add(KIND, call())
    first.close()
    again = Measurements(path)
    assert again.expected(KIND, SMALL)
    again.close()
    path.write_bytes(b"not a database" * 1000)
    anew = Measurements(path)
    assert anew.expected(KIND, SMALL) is None
    anew.add(KIND, call())
    assert anew.expected(KIND, SMALL)
    anew.close()


def test_fast_calls_say_nothing_of_exact_ones_nor_these_of_fast_ones(measurements: Measurements) -> None:
    fast = replace(SMALL, fast=True)
    measurements.add(KIND, replace(call(10.0), request=SMALL))
    assert measurements.expected(KIND, fast) is None
    measurements.add(KIND, replace(call(5.0, peak=300), request=fast))
    expected = [measurements.expected(KIND, request) for request in (SMALL, fast)]
    assert [found.seconds for found in expected if found] == pytest.approx([10 + 2, 5 + 2])
    assert [measurements.peak(KIND, request, 1, Knobs()) for request in (SMALL, fast)] == [100, 300]
