"""Which mirror is taken."""

from __future__ import annotations

import dataclasses
import random

import pytest

from mirrors import catalogue
from mirrors.choose import choose, predicted
from mirrors.errors import NoMirror
from mirrors.probe import Measurement


def measured(name: str, latency: float | None, rate: float | None, reason: str = "") -> Measurement:
    mirror = catalogue.adhoc("https://a.example", name)
    return Measurement(mirror, latency, rate, "unusable" if reason else "good", reason or "is good", 2, 0)


NEAR, FAST = measured("near", 0.01, 1e6), measured("fast", 0.8, 50e6)


@pytest.mark.parametrize(("wanted_bytes", "name"), [(10_000, "near"), (3_000_000_000, "fast")])
def test_the_one_that_has_it_all_here_first_wins(wanted_bytes: int, name: str) -> None:
    choice = choose([NEAR, FAST], wanted_bytes)
    assert choice.mirror.name == name
    assert choice.measurements == (NEAR, FAST)


def test_the_reason_has_the_numbers_and_the_next_best() -> None:
    assert choose([NEAR, FAST], 3_000_000_000).reason == (
        "fast: 3000 MB in about 62 s (50.0 MB/s); next best: near: 3000 MB in about 50 min (1.0 MB/s); "
        "2 of them together: 3000 MB in about 61 s"
    )


def test_without_rates_the_latency_decides_and_of_equal_ones_the_first() -> None:
    assert (
        choose([measured("a", 0.3, None), measured("b", 0.1, None), measured("c", 0.1, None)], 1000).mirror.name == "b"
    )
    assert predicted(measured("a", 0.3, None), 1000) == pytest.approx(0.9)


def test_the_first_four_together_are_what_the_prediction_is_of() -> None:
    sources = [measured(f"m{number}", 0.0, 1e6 + number) for number in range(6)]
    choice = choose(sources, 100_000_000, random.Random(1))
    assert len(choice.sources) == 6
    assert choice.predicted == pytest.approx(25, rel=0.01)


def test_what_measuring_has_brought_is_not_predicted_again() -> None:
    sources = [dataclasses.replace(measured("a", 0.0, 1e6), kept=40_000_000)]
    assert choose(sources, 100_000_000).predicted == pytest.approx(60, rel=0.01)


def test_nobody_is_expected_to_give_more_than_its_operator_allows() -> None:
    capped = dataclasses.replace(FAST, mirror=dataclasses.replace(FAST.mirror, max_rate=500_000))
    assert choose([capped, NEAR], 1_000_000_000).mirror.name == "near"


def test_among_those_within_a_tenth_of_the_best_the_dice_decide() -> None:
    sources = [measured("a", 0.0, 10e6), measured("b", 0.0, 9.5e6), measured("c", 0.0, 8e6)]
    first = {choose(sources, 100_000_000, random.Random(seed)).sources[0].mirror.name for seed in range(20)}
    assert first == {"a", "b"}


def test_an_unusable_one_is_never_taken() -> None:
    assert choose([measured("bad", 0.0, 1e12, "lies"), NEAR], 1000).mirror.name == "near"


def test_none_is_an_error_that_says_why_for_each() -> None:
    with pytest.raises(NoMirror, match="a lies; b lacks torch") as caught:
        choose([measured("a", None, None, "lies"), measured("b", None, None, "lacks torch")], 1)
    assert caught.value.hint
    with pytest.raises(NoMirror, match="no candidate"):
        choose([], 1)
